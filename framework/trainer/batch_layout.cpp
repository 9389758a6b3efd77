#include "trainer/batch_layout.h"

#include <algorithm>

namespace switchyard {

Share BatchLayout::groups_of(int64_t micro_batch, int64_t rank) const {
  const Share micro = share_of(groups(), micro_batches, micro_batch);
  const Share part = share_of(micro.size(), ranks, rank);
  return {micro.begin + part.begin, micro.begin + part.end};
}

void BatchLayout::boundaries(Share groups, std::vector<int64_t>& bounds) const {
  bounds.clear();
  for (int64_t group = groups.begin; group <= groups.end; ++group) {
    bounds.push_back(std::min(group * group_sequences, sequences));
  }
}

std::vector<int64_t> BatchLayout::idle_ranks() const {
  std::vector<int64_t> idle;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    bool has_work = false;
    for (int64_t micro = 0; micro < micro_batches; ++micro) {
      has_work = has_work || groups_of(micro, rank).size() > 0;
    }
    if (!has_work) idle.push_back(rank);
  }
  return idle;
}

}  // namespace switchyard
