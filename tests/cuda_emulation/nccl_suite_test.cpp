// Collectives between devices, under mpirun: the suite that every implementation passes, and what
// only streams of a device have.
#include <gtest/gtest.h>

#include "collectives/cases.h"
#include "collectives/nccl/nccl.h"
#include "cuda_emulation/host_tensors_over_devices.h"
#include "support/mpirun_job.h"

namespace switchyard::test {
namespace {

// Made once: the ranks' identification is exchanged by all.
struct World {
  cuda::CudaMemory memory{0};
  cuda::CudaStream stream{memory};
  HostTensorsOverDevices staged{make_nccl_collectives(mpirun_job().world()), memory, stream};
};

class NcclSuite : public testing::TestWithParam<CollectivesCase> {
 protected:
  World world_;
};

TEST_P(NcclSuite, Passes) { GetParam().body(world_.staged); }

INSTANTIATE_TEST_SUITE_P(Collectives, NcclSuite, testing::ValuesIn(collectives_cases()),
                         [](const auto& instance) { return instance.param.name; });

class NcclStreams : public testing::Test {
 protected:
  Tensor on_device(const std::vector<float>& numbers) {
    Tensor x(DType::kFloat32, {static_cast<int64_t>(numbers.size())}, memory_);
    memory_.copy_in(x.view().raw(), numbers.data(), x.size_bytes());
    return x;
  }
  std::vector<float> on_host(const Tensor& x) {
    std::vector<float> numbers(static_cast<size_t>(x.elements()));
    memory_.copy_out(numbers.data(), x.view().raw(), x.size_bytes());
    return numbers;
  }

  Collectives& host_ = mpirun_job().world();
  cuda::CudaMemory memory_{0};
  cuda::CudaStream compute_{memory_}, communication_{memory_};
  std::unique_ptr<Collectives> devices_ = make_nccl_collectives(host_);
};

// What is enqueued on the stream runs in its order, and other streams follow by events.
TEST_F(NcclStreams, OperationsTakeTheirTurnInTheStream) {
  const auto ranks = static_cast<float>(host_.size());
  const Tensor x = on_device({1, 2, 3}), copy = on_device({0, 0, 0});
  devices_->all_reduce(communication_, x, ReduceOp::kSum)->wait();
  devices_->all_reduce(communication_, x, ReduceOp::kSum)->wait();
  const auto summed = communication_.record();
  compute_.wait(*summed);
  ASSERT_EQ(cudaMemcpyAsync(copy.view().raw(), x.view().raw(), x.size_bytes(),
                            cudaMemcpyDeviceToDevice, compute_.handle()),
            cudaSuccess);
  compute_.synchronize();
  EXPECT_EQ(on_host(copy),
            (std::vector<float>{ranks * ranks, 2 * ranks * ranks, 3 * ranks * ranks}));
}

TEST_F(NcclStreams, HostTensorsTravelOverTheHost) {
  InlineStream stream;
  Tensor x(DType::kInt64, {1});
  x.data<int64_t>()[0] = host_.rank();
  devices_->all_reduce(stream, x, ReduceOp::kMax)->wait();
  EXPECT_EQ(x.data<int64_t>()[0], host_.size() - 1);
  const auto pairs = devices_->split(host_.rank() / 2);
  x.data<int64_t>()[0] = 1;
  pairs->all_reduce(stream, x, ReduceOp::kSum)->wait();
  EXPECT_EQ(x.data<int64_t>()[0], pairs->size());
}

TEST_F(NcclStreams, HostMemoryIsRefused) {
  const Tensor x(DType::kFloat32, {4});
  EXPECT_THROW(devices_->broadcast(communication_, x, 0), RankError);
}

}  // namespace
}  // namespace switchyard::test
