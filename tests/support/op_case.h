// One operation (or a short chain of them) with its inputs and tolerance, said once and used four
// times: every backend against the reference, gradients by finite differences, CUDA under
// emulation, timing. Cases run on any device: they touch elements only through uploads and
// read-backs. The list of all cases is op_cases.h.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "ops/kernels.h"
#include "tensor/weight.h"

namespace switchyard::test {

// An element type as a case sees it: the run's activation dtype, the dtype accurate for it, or one
// that is always the same.
enum class Element : uint8_t { kActivation, kAccurate, kFloat32, kFloat64, kInt32, kInt64, kUint8 };

DType dtype_of(Element element, DType activations);

// Numbers as the host holds them for every dtype; all inputs are exact in every dtype of a run.
using Numbers = std::vector<double>;

struct CaseInput {
  std::string name;
  Element element = Element::kActivation;
  Shape shape;
  Numbers numbers;
  bool differentiable = false;  // the case's backward writes run.d_input(name)
};

struct CaseWeight {
  std::string name;
  Shape shape;
  Numbers numbers;
};

// Standard normal numbers times `scale`, differing from name to name.
Numbers normal_numbers(const std::string& name, const Shape& shape, double scale = 1);
// Integers in [low, high), differing from name to name.
Numbers random_integers(const std::string& name, const Shape& shape, int64_t low, int64_t high);

// A differentiable activation; an activation of no gradient; the same in the accurate dtype.
CaseInput normal(const std::string& name, const Shape& shape, double scale = 1);
CaseInput constant(const std::string& name, const Shape& shape, double scale = 1);
CaseInput accurate_normal(const std::string& name, const Shape& shape, double scale = 1);
CaseInput given(const std::string& name, Element element, const Shape& shape, Numbers numbers);
CaseInput integers(const std::string& name, const Shape& shape, int64_t low, int64_t high);
// int64 token indices `first`, first + 1, ...
CaseInput tokens(int64_t count, int64_t first = 0);
CaseWeight normal_weight(const std::string& name, const Shape& shape, double scale = 1);

class Device;
class OpRun;

// max|difference| / max|reference| of each tensor, by dtype of the activations. Storing a number in
// bfloat16 changes it by up to 2^-9 of it, and a case may store several in a row.
struct Tolerance {
  double float32 = 2e-6, bfloat16 = 1e-2;

  double of(DType dtype) const { return dtype == DType::kBFloat16 ? bfloat16 : float32; }
};

struct OpCase {
  std::string name;  // letters, digits and '_'
  std::vector<CaseInput> inputs = {};
  std::vector<CaseWeight> weights = {};
  // Reads run.in and run.weight, writes run.output, run.saved and run.exact. May run again.
  std::function<void(ExecContext&, OpRun&)> run;
  // After `run`, from run.d_output: writes run.d_input of every differentiable input and the
  // gradient of every weight. Absent: the case has no gradient.
  std::function<void(ExecContext&, OpRun&)> backward = {};
  // What backward is the gradient of; absent: the sum of d_output * output over all outputs.
  std::function<double(OpRun&)> objective = {};
  Tolerance tolerance = {};
};

// How googletest shows a case.
inline void PrintTo(const OpCase& op_case, std::ostream* out) { *out << op_case.name; }

// One tensor to compare.
struct Result {
  std::string name;
  bool exact = false;
  Shape shape;
  Numbers numbers;
};

// A case's tensors on one device in one dtype.
class OpRun {
 public:
  // `rounding` is the dtype that float inputs are rounded to: that of the backend compared with.
  OpRun(const OpCase& op_case, Device& device, DType dtype, DType rounding);

  ExecContext& context();
  DType dtype() const { return dtype_; }

  TensorView in(const std::string& name) const;
  Weight& weight(const std::string& name) const;
  // Made on first use, filled with ones in every bit: NaN, or -1, until written.
  //   output     compared; part of the objective
  //   saved      compared
  //   exact      compared bit by bit between equal dtypes
  //   temporary  not compared
  TensorView output(const std::string& name, const Shape& shape,
                    Element element = Element::kActivation);
  TensorView saved(const std::string& name, const Shape& shape,
                   Element element = Element::kActivation);
  TensorView exact(const std::string& name, const Shape& shape,
                   Element element = Element::kActivation);
  TensorView temporary(const std::string& name, const Shape& shape,
                       Element element = Element::kActivation);
  // The gradient that backward starts from: random, the same on every device.
  TensorView d_output(const std::string& name);
  TensorView d_input(const std::string& name);

  void forward() { case_.run(context(), *this); }
  void backward();
  double objective();
  // Everything compared, gradients ("d_x") included once backward has run.
  std::vector<Result> results();
  Numbers numbers(const std::string& name);

 private:
  enum class Role : uint8_t { kInput, kOutput, kSaved, kExact, kTemporary, kDOutput, kDInput };
  struct Slot {
    std::string name;
    Role role;
    Tensor tensor;
  };

  Slot* find(const std::string& name);
  const Slot* find(const std::string& name) const;
  TensorView make(const std::string& name, Role role, DType dtype, const Shape& shape);
  void upload_numbers(const Numbers& numbers, TensorView x);
  Numbers download(TensorView x);

  const OpCase& case_;
  Device& device_;
  DType dtype_, rounding_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

// Largest |difference| over the largest |reference|, over 1 where the reference is all zero;
// infinite where either isn't finite.
double relative_difference(const Numbers& actual, const Numbers& reference);

}  // namespace switchyard::test
