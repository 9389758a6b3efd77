#include "data/small_dataset.h"

#include <fstream>

#include "data/tokenizer_trainer.h"

namespace switchyard {

const std::string& small_tokenizer() {
  static const std::string model = [] {
    const std::vector<std::string> syllables{"ba", "ko", "mi", "tu", "re", "sa", "no", "li"};
    std::vector<std::string> lines;
    for (uint32_t i = 0; i < 400; ++i) {
      std::string line;
      for (uint32_t word = 0; word < 8; ++word) {
        uint32_t bits = (i * 8 + word) * 2654435761u;
        for (int syllable = 0; syllable < 3; ++syllable, bits >>= 3) {
          line += syllables[bits >> 13 & 7];
        }
        line += ' ';
      }
      lines.push_back(line);
    }
    size_t next = 0;
    return train_tokenizer({.vocabulary = 384, .character_coverage = 1.0, .threads = 1},
                           [&](std::string_view& line) {
                             if (next == lines.size()) return false;
                             line = lines[next++];
                             return true;
                           });
  }();
  return model;
}

void write_small_dataset(const std::filesystem::path& directory,
                         const std::vector<std::string>& labels,
                         const std::vector<SmallDocument>& train,
                         const std::vector<SmallDocument>& validation, ExampleKind examples,
                         const std::optional<Vocabulary>& ids) {
  DatasetListing listing;
  listing.examples = examples;
  listing.labels = labels;
  listing.build = "{}";
  if (ids) {
    listing.vocabulary = *ids;
  } else {
    listing.vocabulary = Tokenizer::from_bytes(small_tokenizer(), "small").ids();
    std::ofstream(directory / kTokenizerFile, std::ios::binary) << small_tokenizer();
    listing.tokenizer = {static_cast<int64_t>(small_tokenizer().size()),
                         digest_of(small_tokenizer()).hex()};
  }
  for (const Split split : kSplits) {
    const auto s = static_cast<size_t>(split);
    const std::filesystem::path path = directory / token_file_name(split);
    TokenFileWriter writer(path, listing.vocabulary.size, static_cast<int>(labels.size()));
    listing.counts[s].resize(labels.size());
    for (const SmallDocument& document : split == Split::kTrain ? train : validation) {
      writer.add(document.ids, document.label);
      ++listing.counts[s][document.label].documents;
      listing.counts[s][document.label].tokens += static_cast<int64_t>(document.ids.size());
    }
    writer.finish();
    listing.token_files[s] = {static_cast<int64_t>(std::filesystem::file_size(path)),
                              digest_of_file(path).hex()};
    listing.header_xxh3[s] = TokenFile(path).header_digest().hex();
  }
  std::ofstream(directory / kListingFile) << to_json(listing);
}

}  // namespace switchyard
