// Running text for a decoder alone, as rows of a fixed number of tokens.
//
// The documents of a split, each closed with end of text, stand one after the other in file order
// and are cut every `length` tokens: a document that doesn't end with its row goes on in the next
// one, and nothing is lost; only the last row of the split may be shorter. A row's documents, or
// parts of them, are its segments, which attention keeps apart. Each token predicts the next one of
// its document, the last of a row that which the next row begins with; so every token of a document
// but its first is a target once in an epoch, its end of text too.
//
// Which row comes when is sampler.h's: all rows once in each epoch, in an order keyed by (seed,
// epoch).
#pragma once

#include <memory>

#include "data/dataset.h"
#include "data/sampler.h"
#include "data/token_source.h"

namespace switchyard {

class CausalSource : public TokenSource {
 public:
  struct Options {
    int length = 0;  // tokens of a row, at least 2
    uint64_t seed = 0;
  };

  // Training rows, endlessly. `dataset` must outlive the source. Throws InputError when the split
  // is empty.
  CausalSource(const Dataset& dataset, Split split, const Options& options);

  // Evaluation rows: the first `rows` of the split's own fixed order, all if it has fewer. The seed
  // of the options has no say.
  static std::unique_ptr<CausalSource> evaluation(const Dataset& dataset, Split split,
                                                  Options options, int64_t rows);

  bool causal() const override { return true; }
  int inputs_width() const override { return options_.length; }
  int targets_width() const override { return options_.length; }
  const Vocabulary& vocabulary() const override { return dataset_->vocabulary(); }
  const std::vector<std::string>& label_names() const override { return dataset_->labels(); }
  int64_t epoch_size() const override { return epoch_size_; }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override;

 private:
  // Where a document begins among all tokens, ends of text counted.
  int64_t document_begin(int64_t document) const;
  // The document that the token at this place belongs to.
  int64_t document_at(int64_t place) const;
  int64_t token_count() const { return document_begin(tokens_->document_count()); }
  int64_t row_count() const;
  void add_documents(int64_t row, TokenBatch& batch) const;

  const Dataset* dataset_;
  const TokenFile* tokens_;
  Options options_;
  int64_t closing_;  // ends of text that each document has: 1, or 0 where the vocabulary has none
  Sampler sampler_;
  int64_t epoch_size_ = 0;
  bool endless_ = true;
};

}  // namespace switchyard
