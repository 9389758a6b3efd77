// A SentencePiece model made as Llama's and Mixtral's are: pairs of bytes, unknown 0, beginning 1,
// end 2, no padding, no normalisation, white space kept; bytes for what has no piece.
#pragma once

#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include <string>
#include <unordered_map>

namespace switchyard {

inline constexpr int kLlamaPieces = 320;

// 300 lines of made-up words.
class MadeUpLines : public sentencepiece::SentenceIterator {
 public:
  MadeUpLines() { make(); }
  bool done() const override { return number_ == 300; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    ++number_;
    make();
  }

 private:
  void make() {
    const std::string letters = "abcdefghik";
    line_.assign(number_ % 3 * 2, ' ');
    for (uint32_t word = 0; word < 9; ++word) {
      const uint32_t bits = (number_ * 9 + word) * 2654435761u;
      for (uint32_t letter = 0; letter < 3 + bits % 3; ++letter) {
        line_ += letters[(bits >> (4 + 4 * letter)) % letters.size()];
      }
      line_ += word == 8 ? "." : " ";
    }
  }

  uint32_t number_ = 0;
  std::string line_;
};

// The bytes of the model file, made once in a process.
inline const std::string& llama_tokenizer() {
  static const std::string model = [] {
    const std::unordered_map<std::string, std::string> options{
        {"model_type", "bpe"},
        {"vocab_size", std::to_string(kLlamaPieces)},
        {"unk_id", "0"},
        {"bos_id", "1"},
        {"eos_id", "2"},
        {"pad_id", "-1"},
        {"byte_fallback", "true"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"allow_whitespace_only_pieces", "true"},
        {"split_digits", "true"},
        {"character_coverage", "0.99995"},
        {"num_threads", "1"},
        {"minloglevel", "2"}};
    MadeUpLines lines;
    std::string bytes;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &bytes);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return bytes;
  }();
  return model;
}

}  // namespace switchyard
