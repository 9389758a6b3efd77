// Which piece of a split's text is sample number i. A pure function of (seed, i): it knows no rank,
// no batch, no thread.
//
// Segments. Consecutive documents of one label form a run (build_dataset() puts the documents of a
// label side by side, so that there is one run for each label). Like T5, documents of a run are
// joined without a mark between them; the run is cut every `tokens` ids, so no segment holds two
// labels. The last segment of a run is shorter; it is left out when it has fewer than `min_tokens`.
//
// Order. Samples 0 .. n-1 (n = number of segments) are epoch 0, the next n epoch 1, ...; in each
// epoch every segment comes once, in an order keyed by (seed, epoch).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/span_corruption.h"
#include "data/token_file.h"

namespace switchyard {

struct Segment {
  int64_t begin = 0;  // first id in the token file
  int tokens = 0;
  int label = 0;
};

// All segments of a token file, numbered in file order; holds one entry for each run.
class SegmentTable {
 public:
  //   tokens      ids of a whole segment, >= 1
  //   min_tokens  ids a last segment must have, in [1, tokens]
  SegmentTable(const TokenFile& file, int tokens, int min_tokens);

  int64_t size() const { return size_; }
  Segment operator[](int64_t index) const;

 private:
  struct Run {
    int64_t first_segment, begin, tokens;
    int label;
  };
  void close_run(Run run);

  int tokens_, min_tokens_;
  int64_t size_ = 0;
  std::vector<Run> runs_;
};

class Sampler {
 public:
  // `segments` must be positive; every epoch holds that many samples.
  Sampler(int64_t segments, uint64_t seed);

  struct Place {
    uint32_t epoch;
    int64_t segment;
  };
  // Where sample `global_index` (>= 0) lies.
  Place operator()(int64_t global_index) const;

  int64_t epoch_size() const { return segments_; }

 private:
  int64_t segments_;
  uint64_t seed_;
};

}  // namespace switchyard
