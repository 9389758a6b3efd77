// Bump allocation for tensors that die together. Two kinds are in use: `saved` (what backward
// needs, one per micro-batch in flight, released whole) and `scratch` (one per stream, mark and
// release). Reuse is ordered by the stream that both users run on. Not thread-safe.
#pragma once

#include <algorithm>
#include <vector>

#include "tensor/memory.h"
#include "tensor/tensor_view.h"

namespace switchyard {

class Arena {
 public:
  struct Mark {
    size_t block = 0, used = 0;
  };

  //   initial_bytes  the planned bound; what exceeds it is taken in further blocks, which become
  //   one
  //                  block when everything is released
  explicit Arena(Memory& memory, size_t initial_bytes = 0);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Uninitialised elements, aligned to kAlignment. Throws SpaceError.
  TensorView allocate(DType dtype, const Shape& shape);

  Mark mark() const { return {current_, used_in_block_}; }
  // Takes back everything allocated since the mark.
  void release(Mark mark);
  void release_all() { release(Mark{}); }

  size_t used_bytes() const;
  size_t high_water_bytes() const { return high_water_; }
  size_t capacity_bytes() const;

 private:
  struct Block {
    void* data;
    size_t size;
  };
  void add_block(size_t size_bytes);

  Memory& memory_;
  std::vector<Block> blocks_;
  size_t current_ = 0, used_in_block_ = 0, high_water_ = 0;
};

// Takes back an arena's allocations at the end of a scope.
class ScratchScope {
 public:
  explicit ScratchScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ScratchScope() { arena_.release(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace switchyard
