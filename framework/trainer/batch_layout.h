// Which sequences of a global batch a rank works on: whole routing groups, shared out to
// micro-batches and then to ranks, both contiguously. A pure function: every rank knows every
// rank's part.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/groups.h"

namespace switchyard {

struct BatchLayout {
  int64_t sequences = 0;  // of the global batch
  int64_t group_sequences =
      1;  // of a routing group; the last group of an evaluation may be smaller
  int64_t micro_batches = 1;
  int64_t ranks = 1;

  int64_t groups() const { return (sequences + group_sequences - 1) / group_sequences; }
  // The routing groups of one micro-batch on one rank; may be none.
  Share groups_of(int64_t micro_batch, int64_t rank) const;
  // Fills in their boundaries in sequences of the global batch, at least one entry.
  void boundaries(Share groups, std::vector<int64_t>& bounds) const;
  // Ranks that never get a token.
  std::vector<int64_t> idle_ranks() const;
};

}  // namespace switchyard
