#include "data/permutation.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

RandomKey key_of(uint64_t seed) { return {.seed = seed, .purpose = Purpose::kSampleOrder}; }

TEST(Permutation, IsBijectiveForEverySize) {
  for (int64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 100, 1000, 4096, 4097, 65'537}) {
    const Permutation permutation(size, key_of(11));
    std::vector<bool> seen(size, false);
    for (int64_t position = 0; position < size; ++position) {
      const int64_t element = permutation(position);
      ASSERT_GE(element, 0);
      ASSERT_LT(element, size);
      ASSERT_FALSE(seen[element]) << size << ": " << element << " twice";
      seen[element] = true;
    }
  }
}

TEST(Permutation, LargeSizesStayInside) {
  const int64_t size = (int64_t{1} << 40) + 12345;
  const Permutation permutation(size, key_of(1));
  for (int64_t position = size - 100; position < size; ++position) {
    const int64_t element = permutation(position);
    EXPECT_GE(element, 0);
    EXPECT_LT(element, size);
  }
}

// Of 1,000 elements about one is expected where it was, whatever the key.
TEST(Permutation, DependsOnTheKeyAndMoves) {
  const Permutation a(1000, key_of(1)), b(1000, key_of(2)), again(1000, key_of(1));
  int same = 0, fixed = 0;
  for (int64_t position = 0; position < 1000; ++position) {
    same += a(position) == b(position);
    fixed += a(position) == position;
    EXPECT_EQ(a(position), again(position));
  }
  EXPECT_LT(same, 12);
  EXPECT_LT(fixed, 12);
}

// Where element 0 goes over many keys: each of 16 places as often as the next.
TEST(Permutation, EveryPlaceIsEquallyLikely) {
  std::vector<int> counts(16, 0);
  constexpr int kKeys = 16'000;
  for (uint64_t seed = 0; seed < kKeys; ++seed) ++counts[Permutation(16, key_of(seed))(0)];
  double chi_squared = 0;
  for (const int count : counts) chi_squared += (count - 1000.) * (count - 1000.) / 1000.;
  EXPECT_LT(chi_squared, 44.3);  // 0.9999 quantile with 15 degrees of freedom
}

}  // namespace
}  // namespace switchyard
