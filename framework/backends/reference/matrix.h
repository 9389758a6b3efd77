// Plain access to a tensor's elements, and the choice of their type. For the .cpp files of this
// folder only.
#pragma once

#include <algorithm>
#include <type_traits>

#include "tensor/bfloat16.h"
#include "tensor/weight.h"

namespace switchyard::reference {

// A tensor as rows of its innermost dimension.
template <typename T>
class Matrix {
 public:
  explicit Matrix(TensorView x)
      : data_(x.data<T>()),
        columns_(x.shape()[-1]),
        rows_(columns_ == 0 ? 0 : x.elements() / columns_) {}
  Matrix(T* data, int64_t rows, int64_t columns) : data_(data), columns_(columns), rows_(rows) {}

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  T* row(int64_t i) const { return data_ + i * columns_; }
  T& operator()(int64_t i, int64_t j) const { return data_[i * columns_ + j]; }

 private:
  T* data_;
  int64_t columns_, rows_;
};

// What is computed in where activations are T: sums, insides of functions, gradients of weights.
template <typename T>
using Accurate = std::conditional_t<std::is_same_v<T, double>, double, float>;

// A weight's number as products with activations of T see it: for bfloat16 rounded to it.
template <typename T>
Accurate<T> compute_weight(Accurate<T> master) {
  return static_cast<Accurate<T>>(static_cast<T>(master));
}

// Calls body(T{}) with the T that an accurate dtype stands for.
template <typename Body>
void with_floating(DType dtype, Body body) {
  if (dtype == DType::kFloat32) {
    body(float{});
  } else {
    SWITCHYARD_CHECK(dtype == DType::kFloat64, "the reference backend met ", name_of(dtype));
    body(double{});
  }
}

// Calls body(T{}) with the T that a dtype of activations stands for.
template <typename Body>
void with_activation(DType dtype, Body body) {
  if (dtype == DType::kBFloat16) {
    body(BFloat16{});
  } else {
    with_floating(dtype, body);
  }
}

// Whether a mask (uint8 [T], or absent) lets token t in.
inline bool is_in(TensorView mask, int64_t t) {
  return mask.absent() || mask.data<uint8_t>()[t] != 0;
}

template <typename T>
void zero(TensorView x) {
  std::fill_n(x.data<T>(), x.elements(), T{});
}

}  // namespace switchyard::reference
