// How rows get from rank to rank inside an expert group. The kinds differ in who talks to whom,
// never in what arrives.
#pragma once

#include <memory>
#include <utility>

#include "base/reused_memory.h"
#include "layers/layer_context.h"

namespace switchyard {

// How many rows each rank of the expert group sends to each; the same on every rank.
struct Traffic {
  int ranks = 0;
  ReusedVector<int64_t> rows;  // [from, to]

  Traffic() = default;
  explicit Traffic(int size) : ranks(size), rows(static_cast<size_t>(size) * size) {}

  int64_t& at(int from, int to) { return rows[static_cast<size_t>(from * ranks + to)]; }
  int64_t at(int from, int to) const { return rows[static_cast<size_t>(from * ranks + to)]; }
  ReusedVector<int64_t> sent_by(int rank) const;      // [ranks], by receiver
  ReusedVector<int64_t> received_by(int rank) const;  // [ranks], by sender
  Traffic transposed() const;                         // the way back
};

class Dispatch {
 public:
  virtual ~Dispatch() = default;

  // Starts to move rows; every rank of the expert group calls it. Until wait() has returned the
  // buffers belong to the Work, as does what it took from ctx.scratch.
  //   send      [rows sent, ...] by receiving rank
  //   received  [rows received, ...] by sending rank, the same trailing shape
  virtual std::unique_ptr<Work> move(LayerContext& ctx, const Traffic& traffic, TensorView send,
                                     TensorView received) const = 0;

  // Rows that a rank of the expert group gives to other ranks in one move, forwarded ones included.
  virtual int64_t rows_sent(const Groups& groups, const Traffic& traffic, int rank) const = 0;

  // The most rows of work space that move() takes from ctx.scratch.
  //   sent, received  the most rows that one rank sends and receives
  virtual int64_t most_work_rows(const Groups& groups, int64_t sent, int64_t received) const = 0;
};

// A Work that ends with something to do for its waiter, once.
template <typename Then>
class WorkThen : public Work, public Reused {
 public:
  WorkThen(std::unique_ptr<Work> work, Then then)
      : work_(std::move(work)), then_(std::move(then)) {}
  void wait() override {
    work_->wait();
    if (!std::exchange(done_, true)) then_();
  }

 private:
  std::unique_ptr<Work> work_;
  Then then_;
  bool done_ = false;
};
template <typename Then>
std::unique_ptr<Work> work_then(std::unique_ptr<Work> work, Then then) {
  return std::make_unique<WorkThen<Then>>(std::move(work), std::move(then));
}

// Every rank sends to every other one directly.
std::unique_ptr<Dispatch> make_all_to_all_dispatch();
// Every rank gets the rows of all ranks and keeps its own.
std::unique_ptr<Dispatch> make_all_gather_dispatch();
// Within a node first, to the rank at the receiver's place, then between nodes, so that a node
// sends each other one as many messages as it has ranks. Needs Groups::node and Groups::across.
std::unique_ptr<Dispatch> make_hierarchical_dispatch();

}  // namespace switchyard
