// Encodes much text fast: word by word, remembering the ids of words it has met.
//
// As a rule SentencePiece's pieces never reach over white space, so a text's ids are those of its
// words one after the other; of a tokenizer that doesn't take words apart so, texts are encoded
// whole. (A whole text given to the tokenizer at once may differ where two segmentations
// of a word are all but equal: its float32 score has then grown over the words before.)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer.h"

namespace switchyard {

// For one thread; `tokenizer` must outlive it.
class WordEncoder {
 public:
  //   max_known  words remembered at most; 200,000 take some 30 MB
  explicit WordEncoder(const Tokenizer& tokenizer, size_t max_known = 200'000)
      : tokenizer_(&tokenizer), max_known_(max_known) {}

  // Appends the ids of the text. What it has met before never changes the result.
  void encode(std::string_view text, std::vector<int32_t>& ids);

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  const Tokenizer* tokenizer_;
  size_t max_known_;
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> known_;
};

}  // namespace switchyard
