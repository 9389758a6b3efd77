#include "ops/argument_checks.h"

#include <algorithm>

namespace switchyard::internal {

void ArgumentChecks::activation(std::string_view name, TensorView x, int rank) const {
  SWITCHYARD_CHECK(!x.absent() && x.shape().rank() == rank, operation_, ": ", name, " is ",
                   x.shape(), ", must have ", rank, " dimensions");
  SWITCHYARD_CHECK(is_floating(x.dtype()) && ctx_.kernels.supports(x.dtype()), operation_, ": ",
                   name, " is ", name_of(x.dtype()), ", which backend ", ctx_.kernels.name(),
                   " does not compute with");
}

void ArgumentChecks::scores(std::string_view name, TensorView x) const {
  rank(name, x, accurate(x.dtype()), 2);
}

void ArgumentChecks::rank(std::string_view name, TensorView x, DType dtype, int rank) const {
  SWITCHYARD_CHECK(!x.absent() && x.dtype() == dtype && x.shape().rank() == rank, operation_, ": ",
                   name, " is ", name_of(x.dtype()), " ", x.shape(), ", must be ", name_of(dtype),
                   " with ", rank, " dimensions");
}

void ArgumentChecks::same(std::string_view name, TensorView x, DType dtype,
                          const Shape& shape) const {
  SWITCHYARD_CHECK(!x.absent() && x.dtype() == dtype && x.shape() == shape, operation_, ": ", name,
                   " is ", name_of(x.dtype()), " ", x.shape(), ", must be ", name_of(dtype), " ",
                   shape);
}

void ArgumentChecks::at_least(std::string_view name, TensorView x, DType dtype,
                              const Shape& shape) const {
  bool fits = !x.absent() && x.dtype() == dtype && x.shape().rank() == shape.rank();
  for (int i = 0; fits && i < shape.rank(); ++i) {
    fits = i == 0 ? x.shape()[0] >= shape[0] : x.shape()[i] == shape[i];
  }
  SWITCHYARD_CHECK(fits, operation_, ": ", name, " is ", name_of(x.dtype()), " ", x.shape(),
                   ", must be ", name_of(dtype), " ", shape, " or more rows");
}

void ArgumentChecks::weight(const Weight& w, DType activations, const Shape& shape) const {
  SWITCHYARD_CHECK(w.dtype() == accurate(activations) && w.shape() == shape, operation_,
                   ": weight ", w.name(), " is ", name_of(w.dtype()), " ", w.shape(), ", must be ",
                   name_of(accurate(activations)), " ", shape);
}

void ArgumentChecks::boundaries(std::string_view name, std::span<const int64_t> offsets,
                                int64_t rows) const {
  SWITCHYARD_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows, operation_,
                   ": ", name, " run from ", offsets.empty() ? -1 : offsets.front(), " to ",
                   offsets.empty() ? -1 : offsets.back(), ", must run from 0 to ", rows);
  SWITCHYARD_CHECK(std::is_sorted(offsets.begin(), offsets.end()), operation_, ": ", name,
                   " descend somewhere");
}

}  // namespace switchyard::internal
