// How the free functions of ops/ check their arguments: a failure names the operation, the argument
// and both shapes. For the .cpp files of this folder only.
#pragma once

#include <string_view>

#include "ops/kernels.h"
#include "tensor/weight.h"

namespace switchyard::internal {

// One operation's call; the tensors that its failures list were checked before.
class ArgumentChecks {
 public:
  ArgumentChecks(const ExecContext& ctx, std::string_view operation)
      : ctx_(ctx), operation_(operation) {}

  // A floating tensor of a dtype that the backend computes with.
  void activation(std::string_view name, TensorView x, int rank) const;
  // Scores, probabilities or weights of choices: rows of an accurate dtype.
  void scores(std::string_view name, TensorView x) const;
  // A given tensor of this dtype and rank.
  void rank(std::string_view name, TensorView x, DType dtype, int rank) const;
  // A given tensor of exactly this dtype and shape.
  void same(std::string_view name, TensorView x, DType dtype, const Shape& shape) const;
  // A given tensor of this dtype, at least `rows` rows of `shape`'s other dimensions.
  void at_least(std::string_view name, TensorView x, DType dtype, const Shape& shape) const;
  // The master's dtype fits activations of `activations`, its shape is `shape`.
  void weight(const Weight& w, DType activations, const Shape& shape) const;
  // Boundaries 0 = offsets[0] <= offsets[1] <= ... = rows.
  void boundaries(std::string_view name, std::span<const int64_t> offsets, int64_t rows) const;

 private:
  const ExecContext& ctx_;
  std::string_view operation_;
};

}  // namespace switchyard::internal
