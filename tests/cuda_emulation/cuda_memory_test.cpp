// What the CUDA backend keeps in a device's memory: forms of weights that follow their masters, and
// the error of having no room for more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "backends/cuda/cuda_kernels.h"
#include "ops/mat_mul.h"
#include "tensor/bfloat16.h"
#include "tensor/memory_use.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

class CudaDeviceMemory : public testing::Test {
 protected:
  CudaKernels kernels_{0};
  std::unique_ptr<Stream> stream_ = kernels_.make_stream();
  Arena scratch_{kernels_.memory()};
  ExecContext ctx_{kernels_, *stream_, scratch_};
};

TEST_F(CudaDeviceMemory, FormsOfAWeightFollowItsMaster) {
  Weight w("w", WeightRole::kDense, DType::kFloat32, {8, 8}, kernels_.memory());
  const Tensor x(DType::kBFloat16, {1, 8}, kernels_.memory());
  const Tensor y(DType::kBFloat16, {1, 8}, kernels_.memory());
  upload<BFloat16>(ctx_, std::vector<BFloat16>(8, BFloat16(1.0f)), x);
  const auto product_of = [&](float number) {
    upload<float>(ctx_, std::vector<float>(64, number), w.master());
    linear(ctx_, x, w, y);
    return static_cast<float>(read_back_as<BFloat16>(ctx_, y).front());
  };
  EXPECT_EQ(product_of(1), 8);
  EXPECT_EQ(product_of(2), 8);  // nobody said that the master changed
  w.master_changed();
  EXPECT_EQ(product_of(2), 16);
}

TEST_F(CudaDeviceMemory, SaysWhatHoldsItWhereThereIsNoRoom) {
  const Weight w("w", WeightRole::kDense, DType::kFloat32, {512, 512}, kernels_.memory());
  const Arena arena(kernels_.memory(), size_t{3} << 20);
  const MemoryUseScope scope(kernels_.memory(), "optimizer state");
  try {
    kernels_.memory().allocate(size_t{1} << 50);
    FAIL() << "2^50 bytes were allocated";
  } catch (const SpaceError& error) {
    EXPECT_THAT(error.summary(),
                HasSubstr("out of GPU memory: 1073741824.0 MiB for optimizer state asked for, "));
    EXPECT_THAT(error.summary(), HasSubstr(" free"));
    EXPECT_THAT(error.where(),
                HasSubstr("GPU 0; this rank holds activations and scratch 3.0 MiB, "));
    EXPECT_THAT(error.where(), HasSubstr("weights 1.0 MiB"));
    EXPECT_THAT(error.where(), HasSubstr("gradients 1.0 MiB"));
  }
  // The device goes on.
  const Tensor after(DType::kFloat32, {16}, kernels_.memory());
  EXPECT_NE(after.view().raw(), nullptr);
}

}  // namespace
}  // namespace switchyard
