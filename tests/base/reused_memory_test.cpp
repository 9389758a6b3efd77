#include "base/reused_memory.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace switchyard {
namespace {

TEST(ReusedMemory, GivesWhatWasGivenBackToTheNextOfAboutItsSize) {
  void* first = take_reused_memory(1000);
  give_back_reused_memory(first);
  void* smaller = take_reused_memory(500);
  EXPECT_EQ(smaller, first);
  // In use, it is nobody else's.
  void* other = take_reused_memory(900);
  EXPECT_NE(other, first);
  give_back_reused_memory(smaller);
  void* larger = take_reused_memory(5000);
  EXPECT_NE(larger, first);
  for (void* memory : {other, larger}) give_back_reused_memory(memory);
}

TEST(ReusedMemory, IsAlignedAndHasTheRoom) {
  std::vector<void*> all;
  for (const size_t size : {1u, 63u, 64u, 65u, 127u, 128u, 4097u}) {
    auto* bytes = static_cast<unsigned char*>(take_reused_memory(size));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes) % 16, 0u);
    std::fill_n(bytes, size, static_cast<unsigned char>(all.size()));
    all.push_back(bytes);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(*static_cast<unsigned char*>(all[i]), i);
    give_back_reused_memory(all[i]);
  }
}

TEST(ReusedMemory, MayEndOnAnotherThread) {
  ReusedVector<int> numbers(100);
  std::iota(numbers.begin(), numbers.end(), 0);
  int sum = 0;
  std::thread([&sum, moved = std::move(numbers)] {
    sum = std::accumulate(moved.begin(), moved.end(), 0);
  }).join();
  EXPECT_EQ(sum, 4950);
}

TEST(ReusedMemory, ListsCompareWithPlainOnes) {
  const ReusedVector<int> numbers{1, 2, 3};
  EXPECT_EQ(numbers, (std::vector<int>{1, 2, 3}));
  EXPECT_NE(numbers, (std::vector<int>{1, 2}));
}

}  // namespace
}  // namespace switchyard
