// Brings the slices of tensors together on the ranks that write them, one tensor at a time: files
// hold whole tensors, whatever the layout.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "checkpoint/tensors.h"

namespace switchyard {

class SliceGather {
 public:
  //   group    Groups::tensor; every rank of it makes one, with equal lists of its own tensors
  //   written  by rank of the group: the sliced tensors that it writes, in the order of its file
  SliceGather(Collectives& group, std::vector<std::vector<const GlobalTensor*>> written);

  // The bytes of the next whole tensor that this rank writes, valid until the next call. Waits for
  // the other ranks of the group, each of which calls next() for each of its tensors, and finish().
  std::span<const std::byte> next();
  // Gives the others what they still need; after the last next(), also where writing failed.
  void finish();

 private:
  size_t rank() const { return static_cast<size_t>(group_.rank()); }
  void exchange();

  Collectives& group_;
  std::vector<std::vector<const GlobalTensor*>> written_;
  size_t round_ = 0, rounds_ = 0;
  std::vector<std::byte> sent_, received_, whole_;
};

}  // namespace switchyard
