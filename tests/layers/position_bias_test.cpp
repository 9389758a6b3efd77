#include <gtest/gtest.h>

#include "layers/layer_case.h"
#include "layers/relative_position_bias.h"
#include "support/finite_differences.h"
#include "support/golden.h"

namespace switchyard::test {
namespace {

// Parity 8.2: every distance from -200 to 200, both directions, three settings.
TEST(RelativePositionBucket, EqualsTheGoldenTables) {
  const nlohmann::json golden = golden_json("buckets.json");
  const int64_t first = golden["first"], last = golden["last"];
  int tables = 0;
  for (const auto& [buckets, max_distance] : {std::pair{32, 128}, {12, 20}, {8, 50}}) {
    for (const bool bidirectional : {true, false}) {
      const std::string name = std::string(bidirectional ? "bi" : "uni") + "directional_" +
                               std::to_string(buckets) + "_" + std::to_string(max_distance);
      const std::vector<int32_t> table = golden.at(name);
      ASSERT_EQ(static_cast<int64_t>(table.size()), last - first + 1);
      for (int64_t distance = first; distance <= last; ++distance) {
        EXPECT_EQ(relative_position_bucket(distance, bidirectional, buckets, max_distance),
                  table[static_cast<size_t>(distance - first)])
            << name << ", distance " << distance;
      }
      ++tables;
    }
  }
  EXPECT_EQ(tables, 6);
}

TEST(RelativePositionBucket, StaysInRangeFarAway) {
  for (const int64_t distance : {int64_t{100000}, int64_t{1} << 40}) {
    EXPECT_EQ(relative_position_bucket(-distance, true, 32, 128), 15);
    EXPECT_EQ(relative_position_bucket(distance, true, 32, 128), 31);
    EXPECT_EQ(relative_position_bucket(-distance, false, 32, 128), 31);
    EXPECT_EQ(relative_position_bucket(distance, false, 32, 128), 0);
  }
}

// d(sum of dbias * bias)/d(table) where backward is called once per block and leaf.
TEST(RelativePositionBias, GradientsMatchFiniteDifferencesOverSeveralBlocks) {
  LayerCase layer;
  RelativePositionBias bias("bias",
                            {.buckets = 6, .max_distance = 8, .heads = 2, .bidirectional = true},
                            DType::kFloat64, layer.memory(), 1);
  Weight& table = *bias.weights().front();
  table.begin_step();
  const int64_t queries = 5, keys = 7, distances = queries + keys - 1;
  const Tensor first = layer.normal_tensor("first", {3, 2, distances});
  const Tensor second = layer.normal_tensor("second", {3, 2, distances});
  bias.backward(layer.ctx(), first, queries, keys);
  bias.backward(layer.ctx(), second, queries, keys);
  expect_gradients({differentiated(table)}, [&] {
    layer.release();
    const TensorView y = bias.forward(layer.ctx(), queries, keys);
    double sum = 0;
    for (const Tensor* block : {&first, &second}) {
      for (int64_t leaf = 0; leaf < 3; ++leaf) {
        sum += layer.projection(y, block->view().rows(leaf, leaf + 1));
      }
    }
    return sum;
  });
}

TEST(RelativePositionBias, LooksUpKeyMinusQuery) {
  LayerCase layer;
  for (const bool bidirectional : {true, false}) {
    RelativePositionBias bias(
        "bias", {.buckets = 6, .max_distance = 8, .heads = 2, .bidirectional = bidirectional},
        DType::kFloat64, layer.memory(), 1);
    const TensorView y = bias.forward(layer.ctx(), 3, 4);
    const double* table = bias.weights().front()->master().data<double>();
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < 4; ++j) {
          const int64_t bucket = relative_position_bucket(j - i, bidirectional, 6, 8);
          EXPECT_EQ(y.data<double>()[h * 6 + (j - i + 2)], table[bucket * 2 + h]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::test
