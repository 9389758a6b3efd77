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
