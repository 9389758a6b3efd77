#include "collectives/groups.h"

#include <gtest/gtest.h>

#include <vector>

#include "collectives/single.h"

namespace switchyard {
namespace {

std::vector<int64_t> sizes(int64_t count, int64_t parts) {
  std::vector<int64_t> result;
  int64_t next = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const Share share = share_of(count, parts, part);
    EXPECT_EQ(share.begin, next);
    next = share.end;
    result.push_back(share.size());
  }
  EXPECT_EQ(next, count);
  return result;
}

TEST(Share, IsContiguousAndTheLargerComeFirst) {
  EXPECT_EQ(sizes(8, 3), (std::vector<int64_t>{3, 3, 2}));
  EXPECT_EQ(sizes(7, 3), (std::vector<int64_t>{3, 2, 2}));
  EXPECT_EQ(sizes(6, 3), (std::vector<int64_t>{2, 2, 2}));
  EXPECT_EQ(sizes(2, 4), (std::vector<int64_t>{1, 1, 0, 0}));
  EXPECT_EQ(sizes(0, 2), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(sizes(5, 1), (std::vector<int64_t>{5}));
}

TEST(Share, RefusesPartsThatAreNot) {
  EXPECT_THROW(share_of(4, 2, 2), Error);
  EXPECT_THROW(share_of(4, 0, 0), Error);
  EXPECT_THROW(share_of(-1, 2, 0), Error);
}

TEST(Experts, AreSharedOutOverTheGroup) {
  const ExpertRange middle = experts_of_rank(7, 3, 1);
  EXPECT_EQ(middle.first, 3);
  EXPECT_EQ(middle.count, 2);
  EXPECT_EQ(middle.total, 7);
  EXPECT_EQ(experts_of_rank(2, 4, 3).count, 0);
}

TEST(Groups, RefuseASizeThatDoesNotDivide) {
  const auto world = make_single_collectives();
  EXPECT_THROW(make_groups(*world, 2), Error);
  EXPECT_THROW(make_groups(*world, 0), Error);
  EXPECT_THROW(make_groups(*world, 1, 2), Error);
  EXPECT_THROW(make_groups(*world, 1, 0), Error);
}

}  // namespace
}  // namespace switchyard
