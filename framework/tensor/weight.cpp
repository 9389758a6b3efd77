#include "tensor/weight.h"

#include "tensor/memory_use.h"

namespace switchyard {

static Tensor tensor_for(std::string_view use, DType dtype, const Shape& shape, Memory& memory) {
  const MemoryUseScope scope(memory, use);
  return Tensor(dtype, shape, memory);
}

Weight::Weight(std::string name, WeightRole role, DType dtype, const Shape& shape, Memory& memory,
               ExpertRange experts, WeightSlice slice)
    : name_(std::move(name)),
      role_(role),
      memory_(memory),
      experts_(experts),
      slice_(slice),
      master_(tensor_for("weights", dtype, shape, memory)),
      gradient_(tensor_for("gradients", dtype, shape, memory)) {
  SWITCHYARD_CHECK(dtype == accurate(dtype), name_, " as ", name_of(dtype));
  if (is_expert()) {
    SWITCHYARD_CHECK(
        shape.rank() == 3 && shape[0] == experts.count && name_.find('*') != std::string::npos,
        name_, " ", shape, " for ", experts.count, " experts");
  }
  if (is_sliced()) {
    SWITCHYARD_CHECK(is_expert() && slice.axis > 0 && slice.axis < shape.rank() &&
                         slice.begin >= 0 && slice.begin + shape[slice.axis] <= slice.total,
                     name_, " ", shape, " as a slice from ", slice.begin, " of ", slice.total,
                     " along axis ", slice.axis);
  }
}

Shape Weight::whole_shape() const {
  Shape whole = shape();
  if (is_sliced()) whole.set(slice_.axis, slice_.total);
  return whole;
}

ElementRuns Weight::runs() const {
  const int first_axis = is_expert() ? 1 : 0;
  const int axis = is_sliced() ? slice_.axis : first_axis;
  int64_t outer = 1, inner = 1;
  for (int i = first_axis; i < axis; ++i) outer *= shape()[i];
  for (int i = axis + 1; i < shape().rank(); ++i) inner *= shape()[i];
  const int64_t here = shape().rank() > axis ? shape()[axis] : 1;
  const int64_t there = is_sliced() ? slice_.total : here;
  return {.count = outer,
          .length = here * inner,
          .first = slice_.begin * inner,
          .stride = there * inner};
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
  gradient_ = tensor_for("gradients", DType::kInt64, shape(), memory_);
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
