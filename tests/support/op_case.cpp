#include "support/op_case.h"

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "support/backends.h"
#include "tensor/bfloat16.h"

namespace switchyard::test {
namespace {

RandomKey key_of(const std::string& name) {
  uint64_t seed = 14695981039346656037u;  // FNV-1a: the same numbers on every machine
  for (const char letter : name) seed = (seed ^ static_cast<uint8_t>(letter)) * 1099511628211u;
  return {.seed = seed};
}

double rounded_to(DType dtype, double number) {
  if (dtype == DType::kFloat64) return number;
  if (dtype == DType::kBFloat16) return static_cast<double>(BFloat16(number));
  return static_cast<double>(static_cast<float>(number));
}

// Calls body(T{}) with the host type of a dtype.
template <typename Body>
void with_host_type(DType dtype, Body body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kFloat64:
      return body(double{});
    case DType::kInt32:
      return body(int32_t{});
    case DType::kInt64:
      return body(int64_t{});
    case DType::kUint8:
      return body(uint8_t{});
    case DType::kBFloat16:
      return body(BFloat16{});
  }
}

}  // namespace

DType dtype_of(Element element, DType activations) {
  switch (element) {
    case Element::kActivation:
      return activations;
    case Element::kAccurate:
      return accurate(activations);
    case Element::kFloat32:
      return DType::kFloat32;
    case Element::kFloat64:
      return DType::kFloat64;
    case Element::kInt32:
      return DType::kInt32;
    case Element::kInt64:
      return DType::kInt64;
    case Element::kUint8:
      return DType::kUint8;
  }
  return activations;
}

Numbers normal_numbers(const std::string& name, const Shape& shape, double scale) {
  Numbers numbers(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = scale * random_normal(key_of(name), 0, 0, static_cast<uint32_t>(i));
  }
  return numbers;
}

Numbers random_integers(const std::string& name, const Shape& shape, int64_t low, int64_t high) {
  Numbers numbers(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint32_t word = random_word(key_of(name), 0, 0, static_cast<uint32_t>(i));
    numbers[i] = static_cast<double>(low + static_cast<int64_t>(word) % (high - low));
  }
  return numbers;
}

CaseInput normal(const std::string& name, const Shape& shape, double scale) {
  return {name, Element::kActivation, shape, normal_numbers(name, shape, scale), true};
}

CaseInput constant(const std::string& name, const Shape& shape, double scale) {
  return {name, Element::kActivation, shape, normal_numbers(name, shape, scale), false};
}

CaseInput accurate_normal(const std::string& name, const Shape& shape, double scale) {
  return {name, Element::kAccurate, shape, normal_numbers(name, shape, scale), true};
}

CaseInput given(const std::string& name, Element element, const Shape& shape, Numbers numbers) {
  SWITCHYARD_CHECK(static_cast<int64_t>(numbers.size()) == shape.elements(), name, ": ",
                   numbers.size(), " numbers for ", shape);
  return {name, element, shape, std::move(numbers), false};
}

CaseInput integers(const std::string& name, const Shape& shape, int64_t low, int64_t high) {
  return given(name, Element::kInt32, shape, random_integers(name, shape, low, high));
}

CaseInput tokens(int64_t count, int64_t first) {
  Numbers numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), static_cast<double>(first));
  return given("token", Element::kInt64, {count}, std::move(numbers));
}

CaseWeight normal_weight(const std::string& name, const Shape& shape, double scale) {
  return {name, shape, normal_numbers(name, shape, scale)};
}

OpRun::OpRun(const OpCase& op_case, Device& device, DType dtype, DType rounding)
    : case_(op_case), device_(device), dtype_(dtype), rounding_(rounding) {
  for (const CaseInput& input : case_.inputs) {
    const TensorView x =
        make(input.name, Role::kInput, dtype_of(input.element, dtype), input.shape);
    upload_numbers(input.numbers, x);
  }
  for (const CaseWeight& weight : case_.weights) {
    weights_.push_back(std::make_unique<Weight>(weight.name, WeightRole::kDense, accurate(dtype),
                                                weight.shape, device.memory()));
    upload_numbers(weight.numbers, weights_.back()->master());
    weights_.back()->master_changed();
  }
}

ExecContext& OpRun::context() { return device_.context(); }

OpRun::Slot* OpRun::find(const std::string& name) {
  return const_cast<Slot*>(std::as_const(*this).find(name));
}

const OpRun::Slot* OpRun::find(const std::string& name) const {
  for (const auto& slot : slots_) {
    if (slot->name == name) return slot.get();
  }
  return nullptr;
}

TensorView OpRun::make(const std::string& name, Role role, DType dtype, const Shape& shape) {
  if (Slot* slot = find(name)) {
    SWITCHYARD_CHECK(slot->role == role && slot->tensor.shape() == shape, case_.name, ": ", name,
                     " was ", slot->tensor.shape(), ", is ", shape);
    return slot->tensor;
  }
  slots_.push_back(
      std::make_unique<Slot>(Slot{name, role, Tensor(dtype, shape, device_.memory())}));
  const TensorView x = slots_.back()->tensor;
  const std::vector<uint8_t> ones(x.size_bytes(), 0xFF);
  upload_bytes(context(), ones.data(), x);
  return x;
}

TensorView OpRun::in(const std::string& name) const {
  const Slot* slot = find(name);
  SWITCHYARD_CHECK(slot != nullptr, case_.name, " has no tensor '", name, "'");
  return slot->tensor;
}

Weight& OpRun::weight(const std::string& name) const {
  for (const auto& weight : weights_) {
    if (weight->name() == name) return *weight;
  }
  SWITCHYARD_CHECK(false, case_.name, " has no weight '", name, "'");
  return *weights_.front();
}

TensorView OpRun::output(const std::string& name, const Shape& shape, Element element) {
  return make(name, Role::kOutput, dtype_of(element, dtype_), shape);
}

TensorView OpRun::saved(const std::string& name, const Shape& shape, Element element) {
  return make(name, Role::kSaved, dtype_of(element, dtype_), shape);
}

TensorView OpRun::exact(const std::string& name, const Shape& shape, Element element) {
  return make(name, Role::kExact, dtype_of(element, dtype_), shape);
}

TensorView OpRun::temporary(const std::string& name, const Shape& shape, Element element) {
  return make(name, Role::kTemporary, dtype_of(element, dtype_), shape);
}

TensorView OpRun::d_output(const std::string& name) {
  const std::string gradient = "d_" + name;
  if (const Slot* slot = find(gradient)) return slot->tensor;
  const TensorView y = in(name);
  const TensorView dy = make(gradient, Role::kDOutput, y.dtype(), y.shape());
  upload_numbers(normal_numbers(gradient, y.shape()), dy);
  return dy;
}

TensorView OpRun::d_input(const std::string& name) {
  return make("d_" + name, Role::kDInput, in(name).dtype(), in(name).shape());
}

void OpRun::backward() {
  const bool ordered = context().ordered != nullptr;
  for (const auto& weight : weights_) {
    weight->begin_step();
    if (ordered && !weight->keeps_ordered_sums()) weight->keep_ordered_sums();
  }
  case_.backward(context(), *this);
  for (const auto& weight : weights_) {
    if (ordered && weight->gradient_written()) gradient_of_sums(context(), *weight);
  }
}

double OpRun::objective() {
  if (case_.objective) return case_.objective(*this);
  std::vector<std::string> outputs;
  for (const auto& slot : slots_) {
    if (slot->role == Role::kOutput) outputs.push_back(slot->name);
  }
  double sum = 0;
  for (const std::string& name : outputs) {
    const Numbers y = numbers(name), dy = download(d_output(name));
    sum = std::inner_product(y.begin(), y.end(), dy.begin(), sum);
  }
  return sum;
}

std::vector<Result> OpRun::results() {
  std::vector<Result> results;
  for (const auto& slot : slots_) {
    if (slot->role == Role::kInput || slot->role == Role::kTemporary ||
        slot->role == Role::kDOutput) {
      continue;
    }
    results.push_back({slot->name, slot->role == Role::kExact || !is_floating(slot->tensor.dtype()),
                       slot->tensor.shape(), download(slot->tensor)});
  }
  for (const auto& weight : weights_) {
    if (!weight->gradient_written()) continue;
    results.push_back(
        {"d_" + weight->name(), false, weight->shape(), download(weight->gradient())});
  }
  return results;
}

Numbers OpRun::numbers(const std::string& name) { return download(in(name)); }

void OpRun::upload_numbers(const Numbers& numbers, TensorView x) {
  with_host_type(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> host;
    host.reserve(numbers.size());
    for (const double number : numbers) {
      host.push_back(
          static_cast<T>(is_floating(x.dtype()) ? rounded_to(rounding_, number) : number));
    }
    upload<T>(context(), host, x);
  });
}

Numbers OpRun::download(TensorView x) {
  Numbers numbers;
  with_host_type(x.dtype(), [&](auto zero) {
    for (const auto value : read_back_as<decltype(zero)>(context(), x)) {
      numbers.push_back(static_cast<double>(value));
    }
  });
  return numbers;
}

double relative_difference(const Numbers& actual, const Numbers& reference) {
  double difference = 0, largest = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double here = std::abs(actual[i] - reference[i]);
    if (!std::isfinite(here)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, here);
    largest = std::max(largest, std::abs(reference[i]));
  }
  return largest == 0 ? difference : difference / largest;
}

}  // namespace switchyard::test
