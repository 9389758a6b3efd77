// Collectives of hosts for tensors of the emulated device: waits for the stream and copies through
// host memory. NCCL's place in tests whose ranks are threads.
#pragma once

#include <memory>

#include "backends/cuda/cuda_memory.h"
#include "collectives/collectives.h"

namespace switchyard::test {

class StagedCollectives final : public Collectives {
 public:
  // `inner` must outlive the result.
  explicit StagedCollectives(Collectives& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override;
  std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                       std::span<const int64_t> part_rows,
                                       TensorView part) override;
  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override;
  std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                   std::span<const int64_t> send_rows, TensorView recv,
                                   std::span<const int64_t> recv_rows) override;
  std::unique_ptr<Work> broadcast(Stream& stream, TensorView x, int root) override;
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Collectives> split(int color) override;
  void abort(const std::string& reason) noexcept override { inner_.abort(reason); }

 private:
  explicit StagedCollectives(std::unique_ptr<Collectives> inner)
      : owned_(std::move(inner)), inner_(*owned_) {}

  std::unique_ptr<Collectives> owned_;
  Collectives& inner_;
  cuda::CudaMemory device_{0};
};

}  // namespace switchyard::test
