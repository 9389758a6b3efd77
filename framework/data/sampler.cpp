#include "data/sampler.h"

#include <algorithm>

#include "base/check.h"
#include "data/permutation.h"

namespace switchyard {

SegmentTable::SegmentTable(const TokenFile& file, int tokens, int min_tokens)
    : tokens_(tokens), min_tokens_(min_tokens) {
  SWITCHYARD_CHECK(tokens >= 1 && min_tokens >= 1 && min_tokens <= tokens, tokens, " and ",
                   min_tokens);
  Run run{0, 0, 0, -1};
  for (int64_t document = 0; document < file.document_count(); ++document) {
    const int label = file.document_label(document);
    const int64_t begin = file.document_begin(document);
    if (label != run.label) {
      close_run(run);
      run = {0, begin, 0, label};
    }
    run.tokens += file.document_begin(document + 1) - begin;
  }
  close_run(run);
}

void SegmentTable::close_run(Run run) {
  const int64_t segments = run.tokens / tokens_ + (run.tokens % tokens_ >= min_tokens_ ? 1 : 0);
  if (segments == 0) return;
  run.first_segment = size_;
  size_ += segments;
  runs_.push_back(run);
}

Segment SegmentTable::operator[](int64_t index) const {
  SWITCHYARD_CHECK(index >= 0 && index < size_, "segment ", index, " of ", size_);
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), index,
                       [](int64_t wanted, const Run& run) { return wanted < run.first_segment; });
  const Run& run = *(after - 1);
  const int64_t offset = (index - run.first_segment) * tokens_;
  const int64_t tokens = std::min<int64_t>(tokens_, run.tokens - offset);
  return {run.begin + offset, static_cast<int>(tokens), run.label};
}

Sampler::Sampler(int64_t segments, uint64_t seed) : segments_(segments), seed_(seed) {
  SWITCHYARD_CHECK(segments > 0, segments, " segments");
}

Sampler::Place Sampler::operator()(int64_t global_index) const {
  SWITCHYARD_CHECK(global_index >= 0, "sample ", global_index);
  const uint32_t epoch = static_cast<uint32_t>(global_index / segments_);
  const RandomKey key{.seed = seed_, .step = epoch, .purpose = Purpose::kSampleOrder};
  return {epoch, Permutation(segments_, key)(global_index % segments_)};
}

}  // namespace switchyard
