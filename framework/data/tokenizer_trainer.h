// Trains a SentencePiece unigram model on lines of text.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace switchyard {

struct TokenizerOptions {
  // The model's vocabulary: pieces + 100 sentinels, a multiple of 128 and at least 384. Where the
  // text yields fewer pieces, the padded vocabulary is smaller too.
  int vocabulary = 4096;
  // Share of the text's characters, counted by frequency, that get a piece of their own; the others
  // are spelt as bytes. Chinese and Japanese in a very small vocabulary want less.
  double character_coverage = 0.9995;
  int threads = 2;  // part of the result: another number may give another model
};

// Calls `next` until it returns false; each call sets one line, which must stay valid until the
// following call. Returns the model file's bytes, the same for the same lines and options.
// Throws InputError when the text is too small for the vocabulary, or the vocabulary too small for
// the characters to cover; ConfigError for an option out of range.
std::string train_tokenizer(const TokenizerOptions& options,
                            const std::function<bool(std::string_view& line)>& next);

}  // namespace switchyard
