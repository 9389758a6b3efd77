#include "data/dataset.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

[[noreturn]] static void refuse(const std::string& reason, const std::filesystem::path& path) {
  throw InputError("the dataset is damaged: " + reason, path.string(),
                   "run `switchyard data build` to make the dataset anew");
}

std::optional<Tokenizer> Dataset::open_tokenizer() const {
  if (!listing_.tokenizer) return std::nullopt;
  const std::filesystem::path path = directory_ / kTokenizerFile;
  Tokenizer tokenizer = Tokenizer::load(path);
  if (tokenizer.digest().hex() != listing_.tokenizer->xxh3) {
    refuse("the tokenizer isn't the one the text was encoded with", path);
  }
  if (tokenizer.ids() != listing_.vocabulary) {
    refuse(fmt::format("the tokenizer's {} ids aren't the vocabulary that dataset.json states",
                       tokenizer.vocabulary()),
           path);
  }
  return tokenizer;
}

const Tokenizer& Dataset::tokenizer() const {
  SWITCHYARD_CHECK(tokenizer_.has_value(), directory_.string(), " has no tokenizer");
  return *tokenizer_;
}

Dataset::Dataset(const std::filesystem::path& directory)
    : directory_(directory),
      listing_(read_listing(directory)),
      tokenizer_(open_tokenizer()),
      tokens_{open_tokens(Split::kTrain), open_tokens(Split::kValidation)} {
  for (const Split split : kSplits) check_tokens(split);
}

TokenFile Dataset::open_tokens(Split split) const {
  return TokenFile(directory_ / token_file_name(split));
}

void Dataset::check_tokens(Split split) const {
  const auto s = static_cast<size_t>(split);
  const TokenFile& file = tokens_[s];
  const std::filesystem::path path = directory_ / token_file_name(split);
  if (file.header_digest().hex() != listing_.header_xxh3[s] ||
      file.size_bytes() != listing_.token_files[s].size_bytes) {
    refuse("the file isn't the one dataset.json lists", path);
  }
  if (file.vocabulary() != vocabulary().size) {
    refuse(fmt::format("its vocabulary of {} isn't dataset.json's {}", file.vocabulary(),
                       vocabulary().size),
           path);
  }
  if (listing_.examples == ExampleKind::kPairs && file.document_count() % 2 != 0) {
    refuse("its documents aren't pairs", path);
  }
  if (file.label_count() != static_cast<int>(labels().size())) {
    refuse(
        fmt::format("it has {} labels, dataset.json has {}", file.label_count(), labels().size()),
        path);
  }
}

void Dataset::verify() const {
  for (const Split split : kSplits) {
    tokens(split).verify();
    const std::filesystem::path path = directory_ / token_file_name(split);
    if (digest_of_file(path).hex() != listing_.token_files[static_cast<size_t>(split)].xxh3) {
      refuse("its digest isn't the one in dataset.json", path);
    }
  }
}

}  // namespace switchyard
