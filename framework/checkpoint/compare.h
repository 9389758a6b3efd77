// Compares two checkpoints tensor by tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace switchyard {

// A tensor of both, of the same shape, with other values.
struct TensorDifference {
  std::string name;
  StoredType type_a = StoredType::kF32, type_b = StoredType::kF32;
  uint64_t elements = 0, differing = 0;
  double largest = 0;           // |a - b|; NaN where one of the two is NaN
  std::vector<uint64_t> first;  // the index of the first element that differs
  double first_a = 0, first_b = 0;
};

struct CheckpointDifference {
  std::vector<std::string> only_a, only_b;  // names
  std::vector<std::string> unlike;          // of another shape: "w: F32 [2, 3], F32 [3, 2]"
  std::vector<TensorDifference> differing;
  int64_t equal = 0;    // tensors with the same values
  int64_t retyped = 0;  // of these, stored in another type

  bool none() const {
    return only_a.empty() && only_b.empty() && unlike.empty() && differing.empty();
  }
};

// Of the same type two elements are equal if their bits are; of different types if their numbers
// are. Holds one tensor of each in memory. Throws CheckpointError for damage.
CheckpointDifference compare_checkpoints(const Checkpoint& a, const Checkpoint& b);

}  // namespace switchyard
