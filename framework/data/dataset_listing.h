// dataset.json: what lies in a dataset directory. Reads and writes the file, opens none it names.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "data/vocabulary.h"

namespace switchyard {

enum class Split { kTrain, kValidation };
inline constexpr std::array<Split, 2> kSplits{Split::kTrain, Split::kValidation};
const char* name_of(Split split);  // "train", "validation"

// What the documents of the token files are: each one a text, or by twos an example's inputs and
// targets.
enum class ExampleKind { kText, kPairs };
const char* name_of(ExampleKind kind);  // "text", "pairs"

inline constexpr const char* kListingFile = "dataset.json";
inline constexpr const char* kTokenizerFile = "tokenizer.model";
std::string token_file_name(Split split);  // "train.tokens", "validation.tokens"

struct DatasetListing {
  struct File {
    int64_t size_bytes = 0;
    std::string xxh3;  // of the whole file, 32 hexadecimal digits
  };
  struct Counts {
    int64_t documents = 0;  // of pairs: examples
    int64_t tokens = 0;
    int64_t text_bytes = 0;  // of the plain text in UTF-8
  };

  ExampleKind examples = ExampleKind::kText;
  Vocabulary vocabulary;
  std::vector<std::string> labels;
  std::optional<File> tokenizer;              // none: the dataset was made from ids
  std::array<File, 2> token_files;            // by Split
  std::array<std::string, 2> header_xxh3;     // TokenFile::header_digest()
  std::array<std::vector<Counts>, 2> counts;  // by Split, then label
  std::string build;                          // the options of the build, a JSON object

  Counts total(Split split) const;

  // Changes when any token, document boundary, label, piece or special id does.
  Digest digest() const;
};

// A vocabulary as dataset.json has it: a JSON object.
std::string to_json(const Vocabulary& vocabulary);

// The text of dataset.json; the same for equal listings.
std::string to_json(const DatasetListing& listing);

// Throws InputError naming the file when it is missing, damaged or of another version. Counts and
// sizes are >= 0, labels neither empty nor doubled; whether the files agree is not checked here.
DatasetListing read_listing(const std::filesystem::path& directory);

}  // namespace switchyard
