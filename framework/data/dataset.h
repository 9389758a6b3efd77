// A dataset directory, opened for reading: tokenizer, token files and what dataset.json says of
// them. Written by build_dataset() (dataset_builder.h); every file is treated as hostile.
//
//   dataset.json       see dataset_listing.h
//   tokenizer.model    the SentencePiece model; none where the dataset was made from ids
//   train.tokens, validation.tokens   see token_file.h
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "data/dataset_listing.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

namespace switchyard {

class Dataset {
 public:
  // Opens the directory. Checks dataset.json, every file's size, the tokenizer's digest and the
  // token files' headers and indices, but not the ids: verify() does.
  // Throws InputError naming the file and what to do.
  explicit Dataset(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const DatasetListing& listing() const { return listing_; }
  const Vocabulary& vocabulary() const { return listing_.vocabulary; }
  bool has_tokenizer() const { return tokenizer_.has_value(); }
  const Tokenizer& tokenizer() const;  // there must be one
  const TokenFile& tokens(Split split) const { return tokens_[static_cast<size_t>(split)]; }

  // The names of labels 0, 1, ...
  const std::vector<std::string>& labels() const { return listing_.labels; }

  // Changes when any token, document boundary, label, piece or special id does.
  Digest digest() const { return listing_.digest(); }

  // Reads every file wholly and compares the digests. Throws InputError as the constructor does.
  void verify() const;

 private:
  std::optional<Tokenizer> open_tokenizer() const;
  TokenFile open_tokens(Split split) const;
  void check_tokens(Split split) const;

  std::filesystem::path directory_;
  DatasetListing listing_;
  std::optional<Tokenizer> tokenizer_;
  std::array<TokenFile, 2> tokens_;
};

}  // namespace switchyard
