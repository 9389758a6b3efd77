// What ranks with slices of the same experts tell each other.
#include "moe/slice_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "support/layer_rank.h"
#include "tensor/bfloat16.h"

namespace switchyard::test {
namespace {

constexpr uint16_t kLayer = 3;

// Two experts; rank r has r + 1 rows of the first and 2 of the second, in an order of its own.
struct Rows {
  explicit Rows(LayerRank& rank, int number)
      : offsets{0, number + 1, number + 3},
        index(DType::kInt32, {number + 3}),
        keys(DType::kInt64, {number + 3}) {
    for (int32_t i = 0; i < number + 3; ++i) {
      index.data<int32_t>()[i] = number + 2 - i;
      keys.data<int64_t>()[i] = 100 * number + i;
    }
    ragged.offsets = offsets;
    ragged.index = index;
    rank.ctx().step = 7;
  }
  std::vector<int64_t> offsets;
  Tensor index, keys;
  RaggedRows ragged;
};

TEST(SliceExchange, LaysTheRowsOfAllRanksOutByExpertAndRank) {
  run_threaded_ranks(2, [](Collectives& world) {
    LayerRank rank(make_reference_kernels(), world, 2, 0, 2);
    const Rows rows(rank, world.rank());
    const SliceExchange exchange(kLayer);
    const SlicePlan plan = exchange.agree(rank.ctx(), rows.ragged, rows.keys, rank.ctx().saved);
    EXPECT_THAT(plan.rows_of_rank, testing::ElementsAre(3, 4));
    EXPECT_THAT(plan.offsets, testing::ElementsAre(0, 3, 7));
    EXPECT_THAT(read_back_as<int32_t>(rank.ctx(), plan.index),
                testing::ElementsAre(2, 6, 5, 1, 0, 4, 3));
    EXPECT_THAT(read_back_as<int64_t>(rank.ctx(), plan.keys),
                testing::ElementsAre(0, 100, 101, 1, 2, 102, 103));
  });
}

// 1 + 2^-8 + 2^-8: bfloat16 has 8 bits, so that each sum of two would be rounded back to 1.
TEST(SliceExchange, RoundsASumOfBfloat16Once) {
  run_threaded_ranks(3, [](Collectives& world) {
    LayerRank rank(make_reference_kernels(), world, 3, 0, 3);
    const Rows rows(rank, world.rank());
    const SliceExchange exchange(kLayer);
    const SlicePlan plan = exchange.agree(rank.ctx(), rows.ragged, {}, rank.ctx().saved);
    EXPECT_TRUE(plan.keys.absent());
    const Tensor partial(DType::kBFloat16, {plan.rows(), 2});
    const Tensor sum(DType::kBFloat16, {rows.ragged.rows(), 2});
    for (int64_t i = 0; i < partial.elements(); ++i) {
      partial.data<BFloat16>()[i] = BFloat16(world.rank() == 0 ? 1.0f : 0x1p-8f);
    }
    exchange.sum(rank.ctx(), plan, partial, sum);
    for (int64_t i = 0; i < sum.elements(); ++i) {
      EXPECT_EQ(static_cast<float>(sum.data<BFloat16>()[i]), 1.0f + 0x1p-7f);
    }
  });
}

TEST(SliceExchange, NamesARankThatIsOutOfStep) {
  EXPECT_THAT(
      [] {
        run_threaded_ranks(2, [](Collectives& world) {
          LayerRank rank(make_reference_kernels(), world, 2, 0, 2);
          const Rows rows(rank, world.rank());
          rank.ctx().step += static_cast<uint32_t>(world.rank());
          SliceExchange(kLayer).agree(rank.ctx(), rows.ragged, rows.keys, rank.ctx().saved);
        });
      },
      testing::ThrowsMessage<RankError>(testing::HasSubstr("at layer 3, step ")));
}

}  // namespace
}  // namespace switchyard::test
