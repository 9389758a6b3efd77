#include "trainer/batch_layout.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::vector<int64_t> boundaries_of(const BatchLayout& layout, Share groups) {
  std::vector<int64_t> bounds{-1};  // whatever stood there is gone
  layout.boundaries(groups, bounds);
  return bounds;
}

TEST(BatchLayout, SharesWholeGroupsContiguously) {
  const BatchLayout layout{.sequences = 16, .group_sequences = 2, .ranks = 3};
  EXPECT_EQ(layout.groups(), 8);
  EXPECT_EQ(layout.groups_of(0, 0).size(), 3);
  EXPECT_EQ(layout.groups_of(0, 1).size(), 3);
  EXPECT_EQ(layout.groups_of(0, 2).size(), 2);
  EXPECT_EQ(boundaries_of(layout, layout.groups_of(0, 1)), (std::vector<int64_t>{6, 8, 10, 12}));
  EXPECT_TRUE(layout.idle_ranks().empty());
}

TEST(BatchLayout, MicroBatchesAndRanksCoverTheBatchOnceInOrder) {
  for (int64_t ranks : {1, 2, 3, 5, 8}) {
    for (int64_t micro_batches : {1, 2, 3}) {
      const BatchLayout layout{
          .sequences = 21, .group_sequences = 3, .micro_batches = micro_batches, .ranks = ranks};
      int64_t next = 0;
      for (int64_t micro = 0; micro < micro_batches; ++micro) {
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const Share share = layout.groups_of(micro, rank);
          EXPECT_EQ(share.begin, next);
          next = share.end;
        }
      }
      EXPECT_EQ(next, layout.groups());
    }
  }
}

TEST(BatchLayout, NamesRanksWithoutTokensAndCutsTheLastGroup) {
  const BatchLayout layout{.sequences = 5, .group_sequences = 2, .ranks = 4};
  EXPECT_EQ(layout.groups(), 3);
  EXPECT_EQ(layout.idle_ranks(), (std::vector<int64_t>{3}));
  EXPECT_EQ(boundaries_of(layout, {2, 3}), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(boundaries_of(layout, {3, 3}), (std::vector<int64_t>{5}));
}

}  // namespace
}  // namespace switchyard
