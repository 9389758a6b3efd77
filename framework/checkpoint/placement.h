// Puts a tensor's elements, which come in order as bytes, where this rank has them.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/weight.h"

namespace switchyard {

class Placement {
 public:
  //   runs           where the target's elements lie in the whole tensor
  //   target         the part of the tensor that is here, in `memory`
  //   first_element  of the whole tensor, that the bytes begin with
  Placement(const ElementRuns& runs, TensorView target, Memory& memory, int64_t first_element = 0);

  // The next bytes, of the target's dtype; pieces may end inside an element.
  void put(std::span<const std::byte> bytes);

 private:
  TensorView target_;
  Memory& memory_;
  ElementRuns runs_;  // in bytes
  int64_t at_;        // byte of the whole tensor
};

}  // namespace switchyard
