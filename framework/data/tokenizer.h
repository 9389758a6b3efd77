// Text to token ids and back with a SentencePiece model. Trains nothing (tokenizer_trainer.h does).
//
// One that numbers its special pieces as T5 does (pad 0, end of text 1, unknown 2), as those that
// are trained here, has T5's 100 sentinels on top of its pieces:
//
//   ids   0 .. pieces - 1                 pieces of the model
//         pieces .. pieces + 99           sentinels, descending: <extra_id_k> = pieces + 99 - k
//         up to the next multiple of 128  unused: they only pad the embedding
//
// Any other, such as Llama's and Mixtral's (unknown 0, beginning 1, end 2, no padding), has its
// pieces and nothing else. What is special, and which is there at all, the model says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "data/vocabulary.h"

namespace switchyard {

// pieces + sentinels, rounded up to a multiple of 128.
int padded_vocabulary(int piece_count);

class Tokenizer {
 public:
  // Throws InputError when the file is missing or no SentencePiece model.
  static Tokenizer load(const std::filesystem::path& path);
  // From a model file's bytes; `name` stands for the file in errors.
  static Tokenizer from_bytes(std::string_view bytes, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  int piece_count() const;
  int vocabulary() const;  // ids: pieces, sentinels and unused ones
  Vocabulary ids() const;
  // What a text begins with, in data as in prompts; none: with its first piece.
  std::optional<int32_t> beginning() const;
  // Whether a text's ids are those of its words one after the other, as if each stood alone: white
  // space says nothing but where words end. Not so for Llama's, which keeps newlines and runs of
  // spaces.
  bool takes_words_apart() const;

  // The id of <extra_id_k>, k in [0, 100), where there are sentinels.
  int32_t sentinel_id(int k) const;
  bool is_sentinel(int32_t id) const;

  // The ids of the text, without beginning and end of text. A literal <extra_id_k> becomes its
  // sentinel where there are sentinels. Threads may call it at once.
  std::vector<int32_t> encode(std::string_view text) const;

  // As encode(), but <extra_id_k> is text like any other: for text to train on.
  std::vector<int32_t> encode_plain(std::string_view text) const;

  // The text of ids in [0, vocabulary()). Sentinels show as <extra_id_k>, unused ids as
  // <unused_id>; pad, beginning and end of text show as nothing.
  std::string decode(std::span<const int32_t> ids) const;

  // How a report shows one id: the piece with U+2581 for its space, or as decode() does.
  std::string piece(int32_t id) const;

  // Of the model file's bytes.
  Digest digest() const;

 private:
  struct Model;
  explicit Tokenizer(std::unique_ptr<Model> model);
  std::unique_ptr<Model> model_;
};

}  // namespace switchyard
