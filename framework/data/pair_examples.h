// Text to text: every pair of inputs and targets of a split is an example. What is longer than its
// side allows is cut at the end, so that EOS still closes it.
// Source: seqio/preprocessors.py, append_eos_after_trim.
#pragma once

#include "data/dataset.h"
#include "data/example_source.h"

namespace switchyard {

class PairExamples : public ExampleSource {
 public:
  // `dataset` must outlive the examples.
  //   inputs_length, targets_length  tokens at most, EOS included, at least 2
  // Throws InputError when the split is empty.
  PairExamples(const Dataset& dataset, Split split, int inputs_length, int targets_length);

  int64_t size() const override { return tokens_->document_count() / 2; }
  SampleLengths lengths(int64_t example) const override;
  Sample sample(int64_t example, const SampleKey& key) const override;

 private:
  // The tokens of document 2 * example + side that are kept, without EOS.
  int kept(int64_t document) const;

  const Dataset* dataset_;
  const TokenFile* tokens_;
  int room_[2];  // tokens of a side without EOS
};

// How many examples of a split are longer than a side allows.
struct CutExamples {
  int64_t inputs = 0, targets = 0;
};
CutExamples count_cut(const Dataset& dataset, Split split, int inputs_length, int targets_length);

}  // namespace switchyard
