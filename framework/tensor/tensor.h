// A tensor that owns its elements. Move-only; operations take views.
#pragma once

#include <utility>

#include "tensor/memory.h"
#include "tensor/tensor_view.h"

namespace switchyard {

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised elements. Throws SpaceError.
  Tensor(DType dtype, const Shape& shape, Memory& memory = HostMemory::instance());
  ~Tensor();
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;

  TensorView view() const { return view_; }
  operator TensorView() const { return view_; }  // NOLINT: a Tensor is usable wherever a view is
  DType dtype() const { return view_.dtype(); }
  const Shape& shape() const { return view_.shape(); }
  int64_t elements() const { return view_.elements(); }
  size_t size_bytes() const { return view_.size_bytes(); }
  template <typename T>
  T* data() const {
    return view_.data<T>();
  }

 private:
  TensorView view_;
  Memory* memory_ = nullptr;
};

}  // namespace switchyard
