// Makes a dataset directory (dataset.h) out of files of text, of pairs of texts, or of ids.
//
//   read       every file or line becomes one document; a text that came before is dropped
//   split      by the documents' names, see validation_split.h
//   tokenizer  trained on the training side only, or taken from elsewhere; ids need none
//   encode     documents of a label side by side, labels and documents in the order of the sources
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset_listing.h"
#include "data/text_source.h"
#include "data/tokenizer_trainer.h"

namespace switchyard {

struct BuildOptions {
  std::vector<TextSource> sources;
  std::filesystem::path output;    // the dataset's directory
  double validation_share = 0.02;  // of the document names, in [0, 0.5]
  ExampleKind examples = ExampleKind::kText;
  std::optional<Vocabulary> vocabulary{};  // of sources that hold ids; none: they hold text
  // A SentencePiece model, or a dataset's directory, that the tokenizer is taken from; empty: it is
  // trained, with the options below.
  std::filesystem::path tokenizer_model{};
  TokenizerOptions tokenizer{};
  int64_t training_lines = 200'000;  // of text that the tokenizer is trained on at most
  int threads = 2;                   // for reading and encoding; the result doesn't depend on it
};

struct BuildProgress {
  enum class Phase { kRead, kTokenizer, kEncode } phase = Phase::kRead;
  int64_t bytes_done = 0, bytes_total = 0;  // of files, of the tokenizer's lines, of text
  int64_t documents_done = 0, documents_total = 0;
};
using ProgressCallback = std::function<void(const BuildProgress&)>;

struct BuildReport {
  bool built = true;  // false: the dataset was there and made from the same files and options
  DatasetListing listing;
  int64_t duplicates = 0;    // documents dropped because their text came before
  int64_t without_text = 0;  // empty files and lines, redirections, pictures
  double read_seconds = 0, tokenizer_seconds = 0, encode_seconds = 0;
};

// Builds the dataset in `<output>.building` and renames it when it is whole and on the disk; one
// that is there already is replaced, or kept if the files (their names and contents) and options
// are the same and it is whole. The same sources and options give the same bytes.
//   progress  called now and then on the calling thread; may be empty
// Throws ConfigError for an option out of range or an output that holds something else, InputError
// for sources that are missing, damaged or too small to split, SpaceError when the disk is full.
BuildReport build_dataset(const BuildOptions& options, const ProgressCallback& progress = {});

// What of the options another dataset would be built with, such as "vocabulary"; empty if the
// dataset was built with just these. Looks at no file of the sources.
std::string setting_that_differs(const DatasetListing& listing, const BuildOptions& options);

}  // namespace switchyard
