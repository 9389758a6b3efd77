#include "optim/optimizer.h"

namespace switchyard {

Tensor zero_state(const Weight& weight, const Shape& shape) {
  Tensor zeros(weight.dtype(), shape, weight.memory());
  const std::vector<std::byte> host(zeros.size_bytes());
  weight.memory().copy_in(zeros.view().raw(), host.data(), host.size());
  return zeros;
}

}  // namespace switchyard
