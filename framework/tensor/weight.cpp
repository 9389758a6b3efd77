#include "tensor/weight.h"

namespace switchyard {

Weight::Weight(std::string name, WeightRole role, DType dtype, const Shape& shape, Memory& memory,
               ExpertRange experts)
    : name_(std::move(name)),
      role_(role),
      memory_(memory),
      experts_(experts),
      master_(dtype, shape, memory),
      gradient_(dtype, shape, memory) {
  SWITCHYARD_CHECK(dtype == accurate(dtype), name_, " as ", name_of(dtype));
  if (is_expert()) {
    SWITCHYARD_CHECK(
        shape.rank() == 3 && shape[0] == experts.count && name_.find('*') != std::string::npos,
        name_, " ", shape, " for ", experts.count, " experts");
  }
}

std::string Weight::name_of_expert(int64_t local_index) const {
  SWITCHYARD_CHECK(is_expert() && local_index >= 0 && local_index < experts_.count, name_,
                   ": expert ", local_index);
  std::string name = name_;
  return name.replace(name.find('*'), 1, std::to_string(experts_.first + local_index));
}

void Weight::keep_ordered_sums() {
  SWITCHYARD_CHECK(dtype() == DType::kFloat32 && !gradient_written_, name_, ": ordered sums of ",
                   name_of(dtype()));
  gradient_ = Tensor(DType::kInt64, shape(), memory_);
  keeps_ordered_sums_ = true;
}

TensorView Weight::ordered_sums() const {
  SWITCHYARD_CHECK(keeps_ordered_sums_, name_, " keeps no ordered sums");
  return gradient_;
}

Write Weight::next_gradient_write() {
  const Write write = gradient_written_ ? Write::kAccumulate : Write::kOverwrite;
  gradient_written_ = true;
  return write;
}

}  // namespace switchyard
