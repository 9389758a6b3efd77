// Communication between the ranks of one group. Every operation is enqueued on a Stream and returns
// a Work; every rank of the group calls the same operations in the same order, a rank with nothing
// to give too. An error on one rank reaches all (RankError). Implementations: single (one rank,
// real copies), threaded (N ranks in one process), mpi; nccl comes with the CUDA plugin.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tensor/stream.h"
#include "tensor/tensor_view.h"

namespace switchyard {

// A started operation. The buffers belong to it until wait() has returned.
class Work {
 public:
  virtual ~Work() = default;
  // Makes `stream` (or the caller, where streams run inline) wait for the end; rethrows its error.
  virtual void wait() = 0;
};

enum class ReduceOp : uint8_t { kSum, kMax };

class Collectives {
 public:
  virtual ~Collectives() = default;

  virtual std::string_view name() const = 0;  // "single", "threaded", "mpi"
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Replaces x on every rank by the element-wise sum or maximum over the ranks, in rank order: the
  // same bits on all ranks and from every host implementation. A maximum with a NaN is NaN.
  //   x  float32, float64 or int64; bf16 is never reduced
  virtual std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) = 0;

  // Rank r receives the sum over ranks of the r-th part of x.
  //   x         float32, float64 or int64 [sum of part_rows, ...]; left unspecified
  //   part      [part_rows[rank()], ...]; may be this rank's own rows of x
  virtual std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                               std::span<const int64_t> part_rows,
                                               TensorView part) = 0;

  // Concatenates every rank's rows in rank order.
  //   rows      any dtype [part_rows[rank()], ...]; may be this rank's own rows of gathered
  //   gathered  [sum of part_rows, ...], the same trailing shape
  virtual std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                           std::span<const int64_t> part_rows,
                                           TensorView gathered) = 0;

  // Sends consecutive rows to consecutive ranks and receives theirs, in rank order. Counts are in
  // rows of the trailing shape, may be 0, and must agree on both sides.
  //   send  any dtype [sum of send_rows, ...]
  //   recv  [sum of recv_rows, ...], the same trailing shape
  virtual std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                           std::span<const int64_t> send_rows, TensorView recv,
                                           std::span<const int64_t> recv_rows) = 0;

  // Copies x of rank `root` to all.
  virtual std::unique_ptr<Work> broadcast(Stream& stream, TensorView x, int root) = 0;

  // Returns when every rank has called it.
  virtual void barrier() = 0;

  // Splits the group: ranks of one colour form a new group, ordered by their rank here.
  // Every rank calls it.
  virtual std::unique_ptr<Collectives> split(int color) = 0;

  // Tells all other ranks that this one fails, so that their next or current operation throws a
  // RankError with `reason` instead of hanging. Called from a rank's catch, may be called on any
  // group. Ranks that are processes end at once instead, this one too; main() ends them through
  // its Job, with an exit code of its choice.
  virtual void abort(const std::string& reason) noexcept = 0;
};

}  // namespace switchyard
