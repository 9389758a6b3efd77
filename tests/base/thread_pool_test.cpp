#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace switchyard {
namespace {

TEST(ThreadPool, CoversTheRangeOnceInGrains) {
  ThreadPool pool(3);
  for (int64_t count : {0, 1, 5, 64, 1000}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
    pool.parallel_for(count, 8, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % 8, 0);
      EXPECT_TRUE(end % 8 == 0 || end == count);
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    for (auto& hit : hits) EXPECT_EQ(hit, 1);
  }
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [](int64_t, int64_t end) {
                                   if (end == 100) throw std::runtime_error("last part");
                                 }),
               std::runtime_error);
  std::atomic<int64_t> total{0};
  pool.parallel_for(100, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
  EXPECT_EQ(total, 100);
}

TEST(ThreadPool, RunsTheStartActionOnEveryThread) {
  std::atomic<int> started{0};
  {
    ThreadPool pool(4, [&] { ++started; });
  }
  EXPECT_EQ(started, 4);
}

}  // namespace
}  // namespace switchyard
