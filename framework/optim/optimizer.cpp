#include "optim/optimizer.h"

#include "tensor/memory_use.h"

namespace switchyard {

Tensor zero_state(const Weight& weight, const Shape& shape) {
  const MemoryUseScope scope(weight.memory(), "optimizer state");
  Tensor zeros(weight.dtype(), shape, weight.memory());
  const std::vector<std::byte> host(zeros.size_bytes());
  weight.memory().copy_in(zeros.view().raw(), host.data(), host.size());
  return zeros;
}

}  // namespace switchyard
