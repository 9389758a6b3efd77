// Which ids a dataset's tokens have and what the special ones mean. Turning text into ids is the
// tokenizer's; a dataset of ready ids has a vocabulary and no tokenizer.
#pragma once

#include <cstdint>
#include <optional>

namespace switchyard {

inline constexpr int32_t kPadId = 0;  // these three: of T5's SentencePiece models, and of ours
inline constexpr int32_t kEosId = 1;
inline constexpr int32_t kUnknownId = 2;

struct Vocabulary {
  int size = 0;                           // every id lies below
  std::optional<int32_t> pad;             // in no text
  std::optional<int32_t> eos;             // closes inputs and targets; none: nothing does
  std::optional<int32_t> first_sentinel;  // <extra_id_0>; <extra_id_k> is k below it
  int sentinels = 0;                      // 0 without a first one

  bool operator==(const Vocabulary&) const = default;

  // What stands where a row has no token; masks keep it from being seen.
  int32_t filler() const { return pad.value_or(0); }
  // What the decoder reads before a target's first token.
  int32_t start() const { return pad ? *pad : eos.value_or(0); }
  bool is_sentinel(int32_t id) const {
    return first_sentinel && id <= *first_sentinel && id > *first_sentinel - sentinels;
  }
};

}  // namespace switchyard
