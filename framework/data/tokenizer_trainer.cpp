#include "data/tokenizer_trainer.h"

#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>

#include "base/errors.h"
#include "data/span_corruption.h"

namespace switchyard {
namespace {

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::function<bool(std::string_view&)>& next) : next_(next) { Next(); }
  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    std::string_view line;
    done_ = !next_(line);
    if (!done_) value_.assign(line);
  }

 private:
  const std::function<bool(std::string_view&)>& next_;
  std::string value_;
  bool done_ = false;
};

void check_options(const TokenizerOptions& options) {
  if (options.vocabulary < 384 || options.vocabulary > (1 << 20) || options.vocabulary % 128 != 0) {
    throw ConfigError(
        fmt::format("vocabulary {} is no multiple of 128 in [384, 1048576]", options.vocabulary),
        "", fmt::format("the nearest is {}", std::max(384, (options.vocabulary + 64) / 128 * 128)));
  }
  if (!(options.character_coverage > 0 && options.character_coverage <= 1)) {
    throw ConfigError(
        fmt::format("character_coverage {} is outside (0, 1]", options.character_coverage));
  }
  if (options.threads < 1 || options.threads > 128) {
    throw ConfigError(fmt::format("{} threads are outside [1, 128]", options.threads));
  }
}

}  // namespace

std::string train_tokenizer(const TokenizerOptions& options,
                            const std::function<bool(std::string_view& line)>& next) {
  check_options(options);
  Lines lines(next);
  if (lines.done()) throw InputError("there is no text to train the tokenizer on");
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", "unigram"},
      {"vocab_size", std::to_string(options.vocabulary - kSentinels)},
      {"character_coverage", fmt::to_string(options.character_coverage)},
      {"num_threads", std::to_string(options.threads)},
      {"pad_id", std::to_string(kPadId)},
      {"eos_id", std::to_string(kEosId)},
      {"unk_id", std::to_string(kUnknownId)},
      {"bos_id", "-1"},
      {"byte_fallback", "true"},
      {"hard_vocab_limit", "false"},
      {"minloglevel", "2"}};
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &model);
  if (status.ok()) return model;
  const std::string reason = status.message();
  if (reason.find("required_chars") != std::string::npos) {
    throw InputError(
        fmt::format("a vocabulary of {} has no room for the text's characters", options.vocabulary),
        "", "raise vocabulary, or lower character_coverage");
  }
  const size_t place = reason.rfind("] ");  // of SentencePiece's own source comes before
  throw InputError("the tokenizer can't be trained: " +
                       (place == std::string::npos ? reason : reason.substr(place + 2)),
                   "", "give more text or another vocabulary");
}

}  // namespace switchyard
