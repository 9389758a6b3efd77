// What the tests of single layers share: one rank with the reference backend, and tensors of
// normal numbers in float64.
#pragma once

#include <numeric>
#include <string>

#include "backends/reference/reference_kernels.h"
#include "support/batch_rows.h"
#include "support/layer_rank.h"

namespace switchyard::test {

class LayerCase : public OnlyRank {
 public:
  LayerCase() : OnlyRank(make_reference_kernels()) {}

  Tensor normal_tensor(const std::string& name, const Shape& shape, double scale = 1) {
    Tensor tensor(DType::kFloat64, shape, memory());
    set_numbers(ctx(), normal_numbers(name, shape, scale), tensor);
    return tensor;
  }

  // Sum of dy * y: the objective whose gradient by y is dy.
  double projection(TensorView y, TensorView dy) {
    const Numbers a = numbers_of(ctx(), y), b = numbers_of(ctx(), dy);
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }
};

}  // namespace switchyard::test
