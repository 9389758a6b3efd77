// Collectives over an MPI communicator, run inline on the calling thread. Sums are made in rank
// order by reduce.h, not by MPI_Allreduce: all ranks get the same bits, for any size of message,
// and those of the threaded ranks.
#pragma once

#include <mpi.h>

#include <thread>
#include <vector>

#include "collectives/job.h"
#include "collectives/mpi/mpi_job.h"
#include "tensor/tensor.h"

namespace switchyard {

class MpiCollectives : public Collectives {
 public:
  // Takes over the communicator, whose errors must return.
  //   job  ends the job in abort()
  MpiCollectives(MPI_Comm communicator, const MpiLimits& limits, Job& job);
  ~MpiCollectives() override;
  MpiCollectives(const MpiCollectives&) = delete;
  MpiCollectives& operator=(const MpiCollectives&) = delete;

  std::string_view name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

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
  void barrier() override;
  std::unique_ptr<Collectives> split(int color) override;
  // Prints the reason on standard error, once for the job, and ends it with kRankLost.
  void abort(const std::string& reason) noexcept override;

 private:
  struct Bytes {
    std::byte* data = nullptr;
    int64_t count = 0;
  };

  void start(Stream& stream);
  void exchange();
  void reduce_small(TensorView x, ReduceOp op);
  void reduce_parts(TensorView x, ReduceOp op, std::span<const int64_t> part_elements,
                    std::byte* part);
  void gather(TensorView gathered, std::span<const int64_t> part_bytes);
  std::byte* scratch(int64_t size_bytes);

  MPI_Comm communicator_;
  MpiLimits limits_;
  Job& job_;
  int rank_ = 0, size_ = 1;
  std::thread::id thread_;
  // Kept from call to call, so that a step allocates nothing. One entry a rank:
  std::vector<Bytes> outgoing_, incoming_;
  std::vector<int64_t> part_sizes_;
  std::vector<int> counts_, offsets_;
  std::vector<const std::byte*> sources_;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
  Tensor scratch_;
};

}  // namespace switchyard
