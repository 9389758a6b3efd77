// A borrowed, contiguous, row-major tensor: a pointer, a dtype and a shape. Copies are cheap and
// share the elements. Who owns them (a Tensor or an Arena) must outlive the view.
#pragma once

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace switchyard {

class TensorView {
 public:
  TensorView() = default;
  TensorView(void* data, DType dtype, const Shape& shape)
      : data_(data), dtype_(dtype), shape_(shape) {}

  // True for a default-made view: "not given". A view of zero rows is not empty in this sense.
  bool absent() const { return data_ == nullptr && shape_.rank() == 0; }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t elements() const { return absent() ? 0 : shape_.elements(); }
  size_t size_bytes() const { return static_cast<size_t>(elements()) * size_of(dtype_); }
  void* raw() const { return data_; }

  // The elements, as T; checks the dtype. On a device the pointer is the device's.
  template <typename T>
  T* data() const {
    SWITCHYARD_CHECK(DTypeOf<T>::value == dtype_, "asked for ", name_of(DTypeOf<T>::value),
                     ", the tensor holds ", name_of(dtype_));
    return static_cast<T*>(data_);
  }

  // The same elements under another shape of as many elements.
  TensorView reshape(const Shape& shape) const;
  // Entries begin..end-1 of the outermost dimension.
  TensorView rows(int64_t begin, int64_t end) const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
};

}  // namespace switchyard
