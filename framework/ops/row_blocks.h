// How an operation that can't hold all its rows' results at once cuts them into blocks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/exec_context.h"

namespace switchyard {

// Consecutive blocks of rows. Where sums are ordered a block is whole leaves, as many as fit, so
// that a leaf is one partial.
class RowBlocks {
 public:
  //   leaves  empty: blocks may end anywhere
  RowBlocks(int64_t rows, int64_t per_block, LeafOffsets leaves)
      : rows_(rows), per_block_(per_block), leaves_(leaves) {}

  int64_t end_of(int64_t begin) const {
    const int64_t end = std::min(begin + per_block_, rows_);
    if (leaves_.empty()) return end;
    const auto after = std::upper_bound(leaves_.begin(), leaves_.end(), end);
    if (*(after - 1) > begin) return *(after - 1);
    return *std::upper_bound(leaves_.begin(), leaves_.end(), begin);  // one larger leaf
  }
  int64_t longest() const {
    int64_t longest = 0;
    for (int64_t begin = 0; begin < rows_; begin = end_of(begin)) {
      longest = std::max(longest, end_of(begin) - begin);
    }
    return longest;
  }
  // The boundaries of a block's leaves, counted from its first row. `buffer` has room for those of
  // all leaves and two more.
  LeafOffsets leaves_of(int64_t begin, int64_t end, int64_t* buffer) const {
    int64_t* next = buffer;
    *next++ = 0;
    for (const int64_t boundary : leaves_) {
      if (boundary > begin && boundary < end) *next++ = boundary - begin;
    }
    *next++ = end - begin;
    return {buffer, next};
  }

 private:
  int64_t rows_, per_block_;
  LeafOffsets leaves_;
};

}  // namespace switchyard
