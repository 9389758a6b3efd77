// Text under T5's span corruption: every segment of a split is an example.
#pragma once

#include "data/dataset.h"
#include "data/example_source.h"
#include "data/sampler.h"

namespace switchyard {

class SpanCorruptionExamples : public ExampleSource {
 public:
  struct Options {
    int inputs_length = 128;  // tokens of the encoder with sentinels and EOS, as T5 counts them
    SpanCorruptionOptions corruption{};
    int min_tokens = 16;  // of a last, short segment; see sampler.h
  };
  // `dataset` must outlive the examples. Throws ConfigError for options out of range or a
  // vocabulary without sentinels, InputError when the split has no segment.
  SpanCorruptionExamples(const Dataset& dataset, Split split, const Options& options);

  int64_t size() const override { return segments_.size(); }
  SampleLengths lengths(int64_t example) const override;
  Sample sample(int64_t example, const SampleKey& key) const override;

 private:
  const Dataset* dataset_;
  const TokenFile* tokens_;
  Options options_;
  SegmentTable segments_;
};

}  // namespace switchyard
