// The data of a config's run: its datasets, opened and checked against the config, and the training
// and validation sequences made of them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/dataset.h"
#include "data/dataset_builder.h"
#include "data/token_source.h"

namespace switchyard {

// Shared by the threaded ranks of a process; reading it needs no lock.
struct RunData {
  std::vector<std::unique_ptr<Dataset>> datasets;  // one, or those of data.mixture in its order
  std::unique_ptr<TokenSource> training, validation;

  const Vocabulary& vocabulary() const { return datasets.front()->vocabulary(); }
  // Changes when any training sequence may: with the datasets, and with how they are read.
  Digest digest;
  // The tokenizer's file; empty where there is none.
  std::filesystem::path tokenizer_file() const;
  // Of all token files, which are read where they lie.
  int64_t mapped_bytes() const;
  // "data/a", or "data/a, data/b".
  std::string description() const;

  // Throws InputError for a missing or damaged dataset, and for one that the config doesn't fit.
  static std::unique_ptr<RunData> open(const Config& config);
};

// data.vocabulary as the data pipeline takes it.
Vocabulary stated_vocabulary(const VocabularyConfig& config);

// What `data build` makes of a config.
BuildOptions build_options(const Config& config, int threads);

// A warning for each dataset whose longest inputs or targets are cut; empty where none are.
std::vector<std::string> warnings_of_cut_examples(const Config& config, const RunData& data);

// model.vocabulary, or the vocabulary's size rounded up to a multiple of 128. Throws ConfigError
// where the model's is too small for it.
int64_t resolve_vocabulary(const Config& config, const RunData& data);

}  // namespace switchyard
