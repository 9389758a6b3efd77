// Elements into a device's memory and back.
#include "backends/each_backend.h"

namespace switchyard::test {
namespace {

using Transfer = EachBackend;

TEST_P(Transfer, BringsBackWhatWasUploaded) {
  const std::vector<float> numbers = {1.5f, -0.0f, 3e38f, 1e-40f};
  const std::vector<int32_t> ids = {-100, 0, 2147483647};
  const Tensor x = device_tensor(device(), {2, 2}, numbers);
  const Tensor i = device_tensor(device(), {3}, ids);
  EXPECT_EQ(host<float>(device(), x), numbers);
  EXPECT_EQ(host<int32_t>(device(), i), ids);
  const Tensor copy = read_back(context(), x);
  EXPECT_EQ(copy.shape(), (Shape{2, 2}));
  EXPECT_NE(copy.view().raw(), x.view().raw());
}

TEST_P(Transfer, CopiesOutManyBytesToAnyAddress) {
  constexpr size_t kMost = (size_t{1} << 20) + 20'000, kMargin = 64;
  std::vector<std::byte> bytes(kMost);
  for (size_t i = 0; i < kMost; ++i) bytes[i] = static_cast<std::byte>(i * i >> 7 ^ i);
  Memory& memory = device().memory();
  const Tensor x(DType::kFloat32, {int64_t{kMost / sizeof(float)}}, memory);
  memory.copy_in(x.view().raw(), bytes.data(), kMost);
  for (const size_t size : {kMost, kMost - 1, size_t{1} << 18, (size_t{1} << 18) - 1}) {
    for (const size_t offset : {0, 1, 16, 63}) {
      SCOPED_TRACE(testing::Message() << size << " bytes to " << offset);
      std::vector<std::byte> host(kMargin + kMost + kMargin), expected = host;
      std::copy_n(bytes.begin(), size, expected.begin() + static_cast<long>(offset));
      memory.copy_out(host.data() + offset, x.view().raw(), size);
      EXPECT_TRUE(host == expected);
    }
  }
}

TEST_P(Transfer, TakesNoElements) {
  const Tensor x = device_tensor(device(), {0, 7}, std::vector<float>());
  EXPECT_TRUE(host<float>(device(), x).empty());
}

TEST_P(Transfer, SeesTheWorkEnqueuedBefore) {
  const Tensor x = device_tensor(device(), {1000}, std::vector<float>(1000, 3.0f));
  for (int i = 0; i < 10; ++i) scale(context(), x, 2.0, x);
  EXPECT_EQ(host<float>(device(), x), std::vector<float>(1000, 3072.0f));
}

TEST_P(Transfer, RefusesAnotherDtypeOrCount) {
  const Tensor x = device_tensor(device(), {2}, std::vector<float>{1, 2});
  const std::vector<float> three(3);
  const std::vector<double> two(2);
  EXPECT_THROW(upload<float>(context(), three, x), Error);
  EXPECT_THROW(upload<double>(context(), two, x), Error);
  EXPECT_THROW(host<int32_t>(device(), x), Error);
}

SWITCHYARD_EACH_BACKEND(Transfer);

}  // namespace
}  // namespace switchyard::test
