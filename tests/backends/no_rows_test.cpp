// Operations take no rows at all, also those that the list of cases has none for: a rank without a
// token calls them like any other.
#include "backends/each_backend.h"

namespace switchyard::test {
namespace {

class NoRows : public EachBackend {
 protected:
  Tensor tensor(DType dtype, const Shape& shape) { return Tensor(dtype, shape, device().memory()); }
  Tensor ids(const Shape& shape) { return tensor(DType::kInt32, shape); }
  Tensor scores(const Shape& shape) { return tensor(DType::kFloat32, shape); }
};

TEST_P(NoRows, Elementwise) {
  for (const DType dtype : backend().dtypes) {
    const Tensor x = tensor(dtype, {0, 5}), y = tensor(dtype, {0, 5});
    fill_zero(context(), x);
    copy(context(), x, y);
    copy(context(), x, scores({0, 5}));
    add(context(), x, x, y);
    scale(context(), x, 2.0, y);
    activation_backward(context(), Activation::kGelu, x, x, y);
    gated_activation(context(), Activation::kSilu, x, x, y);
    gated_activation_backward(context(), Activation::kSilu, x, x, x, y, tensor(dtype, {0, 5}));
  }
  const Tensor sum = tensor(DType::kFloat64, {1});
  sum_of_squares(context(), scores({0}), sum);
  EXPECT_EQ(host<double>(device(), sum), std::vector<double>{0});
}

TEST_P(NoRows, TablesGetGradientsOfZero) {
  const std::vector<int64_t> leaves = {0, 0};
  for (const DType dtype : backend().dtypes) {
    const auto table = device_weight<float>(device(), {2, 3}, {1, 2, 3, 4, 5, 6});
    embedding(context(), *table, ids({0}), tensor(dtype, {0, 3}));
    embedding_gradient(context(), ids({0}), tensor(dtype, {0, 3}), leaves, *table);
    EXPECT_EQ(host<float>(device(), table->gradient()), std::vector<float>(6, 0));
  }
  const auto table = device_weight<float>(device(), {2, 3}, {1, 2, 3, 4, 5, 6});
  distance_bias(context(), *table, ids({0}), scores({3, 0}));
  distance_bias_gradient(context(), scores({1, 3, 0}), ids({0}), *table);
  EXPECT_EQ(host<float>(device(), table->gradient()), std::vector<float>(6, 0));
  table->begin_step();
  distance_bias_gradient(context(), scores({0, 3, 7}), ids({7}), *table);
  EXPECT_EQ(host<float>(device(), table->gradient()), std::vector<float>(6, 0));
}

TEST_P(NoRows, Choices) {
  const RandomRows random{.key = {.seed = 1}, .token = tensor(DType::kInt64, {0})};
  skip_choices(context(), ids({0, 2}), scores({0, 2}), random, ids({0, 2}), ids({0, 2}));
  join_choices(context(), ids({0, 1}), ids({0, 2}), 4, ids({0, 2}));
  split_choices(context(), ids({0, 2}), 4, ids({0, 1}));
  look_up_choices(context(), device_tensor<int32_t>(device(), {2}, {1, 0}), ids({0}), {},
                  ids({0, 1}));
  const Tensor dropped = tensor(DType::kInt64, {2}), weights = tensor(DType::kFloat64, {2});
  drop_statistics(context(), ids({0, 2}), ids({0, 2}), scores({0, 2}), dropped, weights);
  EXPECT_EQ(host<int64_t>(device(), dropped), std::vector<int64_t>(2, 0));
  EXPECT_EQ(host<double>(device(), weights), std::vector<double>(2, 0));
}

SWITCHYARD_EACH_BACKEND(NoRows);

}  // namespace
}  // namespace switchyard::test
