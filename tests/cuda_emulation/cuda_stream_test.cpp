// Streams, events, staging and memory of the CUDA backend: what is ordered is ordered, whatever
// else the device does first.
#include "backends/cuda/cuda_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "backends/cuda/cuda_context.h"
#include "backends/cuda/cuda_kernels.h"
#include "ops/elementwise.h"

namespace switchyard {
namespace {

class CudaStreams : public testing::Test {
 protected:
  Tensor tensor(const std::vector<float>& numbers) {
    Tensor x(DType::kFloat32, {static_cast<int64_t>(numbers.size())}, kernels_.memory());
    kernels_.memory().copy_in(x.view().raw(), numbers.data(), numbers.size() * sizeof(float));
    return x;
  }
  // Without waiting for any stream.
  std::vector<float> now(const Tensor& x) {
    std::vector<float> numbers(static_cast<size_t>(x.elements()));
    kernels_.memory().copy_out(numbers.data(), x.view().raw(), numbers.size() * sizeof(float));
    return numbers;
  }

  CudaKernels kernels_{0};
  std::unique_ptr<Stream> stream_ = kernels_.make_stream(), other_ = kernels_.make_stream();
  Arena scratch_{kernels_.memory()}, other_scratch_{kernels_.memory()};
  ExecContext ctx_{kernels_, *stream_, scratch_}, other_ctx_{kernels_, *other_, other_scratch_};
};

TEST_F(CudaStreams, StagedValuesArriveHoweverOftenTheRingTurns) {
  constexpr int64_t kSize = 15'000;
  constexpr int kUploads = 40;
  Tensor all(DType::kFloat32, {kUploads, kSize}, kernels_.memory());
  std::vector<float> host(kSize);
  for (int i = 0; i < kUploads; ++i) {
    host.assign(kSize, static_cast<float>(i + 1));
    const ScratchScope scope(scratch_);
    const auto staged = cuda::to_device<float>(ctx_, host);
    const TensorView from(const_cast<float*>(staged.data), DType::kFloat32, {kSize});
    copy(ctx_, from, all.view().rows(i, i + 1).reshape({kSize}));
  }
  stream_->synchronize();
  const std::vector<float> arrived = now(all);
  for (int i = 0; i < kUploads; ++i) {
    EXPECT_EQ(arrived[static_cast<size_t>(i * kSize)], i + 1);
    EXPECT_EQ(arrived[static_cast<size_t>((i + 1) * kSize - 1)], i + 1);
  }
}

TEST_F(CudaStreams, StagesWhatIsLargerThanTheRing) {
  const ScratchScope scope(scratch_);
  std::vector<float> host(400'000);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i);
  const auto small = cuda::to_device<float>(ctx_, std::span(host).first(3));
  const auto large = cuda::to_device<float>(ctx_, host);
  Tensor last(DType::kFloat32, {3}, kernels_.memory()),
      first(DType::kFloat32, {3}, kernels_.memory());
  const auto view = [](const float* data) {
    return TensorView(const_cast<float*>(data), DType::kFloat32, {3});
  };
  copy(ctx_, view(small.data), first);
  copy(ctx_, view(large.data + large.size - 3), last);
  stream_->synchronize();
  EXPECT_EQ(now(first), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(now(last), (std::vector<float>{399'997, 399'998, 399'999}));
}

TEST_F(CudaStreams, AStreamWaitsForAnEventOfAnother) {
  const Tensor x = tensor(std::vector<float>(1000, 3)), y = tensor(std::vector<float>(1000, 0));
  for (int i = 0; i < 5; ++i) scale(ctx_, x, 2.0, x);
  const std::unique_ptr<Event> scaled = stream_->record();
  other_->wait(*scaled);
  add(other_ctx_, x, x, y);
  other_->synchronize();
  EXPECT_EQ(now(y), std::vector<float>(1000, 192));
}

TEST_F(CudaStreams, TheHostWaitsForAnEvent) {
  const Tensor x = tensor(std::vector<float>(1000, 3));
  scale(ctx_, x, 2.0, x);
  const std::unique_ptr<Event> scaled = stream_->record();
  scaled->wait();
  EXPECT_EQ(now(x), std::vector<float>(1000, 6));
}

TEST_F(CudaStreams, AStreamWaitsForAnEventOfTheHost) {
  InlineStream host;
  stream_->wait(*host.record());
  const Tensor x = tensor({3});
  scale(ctx_, x, 2.0, x);
  stream_->synchronize();
  EXPECT_EQ(now(x), std::vector<float>{6});
}

TEST_F(CudaStreams, WantOfMemoryIsToldInMebibytes) {
  try {
    kernels_.memory().allocate(size_t{1} << 50);
    FAIL();
  } catch (const SpaceError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("out of GPU memory"));
  }
}

}  // namespace
}  // namespace switchyard
