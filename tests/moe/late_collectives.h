// Collectives whose rows arrive as late as they may: only when somebody waits. What a communication
// thread or a device could do, and inline streams never show.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "collectives/groups.h"

namespace switchyard::test {

class LateCollectives : public Collectives {
 public:
  explicit LateCollectives(std::unique_ptr<Collectives> inner) : inner_(std::move(inner)) {}

  std::string_view name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override {
    return late([=, this, &stream] { return inner_->all_reduce(stream, x, op); });
  }
  std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                       std::span<const int64_t> part_rows,
                                       TensorView part) override {
    return late([=, this, &stream, rows = copy(part_rows)] {
      return inner_->reduce_scatter(stream, x, rows, part);
    });
  }
  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override {
    return late([=, this, &stream, counts = copy(part_rows)] {
      return inner_->all_gather(stream, rows, counts, gathered);
    });
  }
  std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                   std::span<const int64_t> send_rows, TensorView recv,
                                   std::span<const int64_t> recv_rows) override {
    return late([=, this, &stream, sent = copy(send_rows), received = copy(recv_rows)] {
      return inner_->all_to_all(stream, send, sent, recv, received);
    });
  }
  std::unique_ptr<Work> broadcast(Stream& stream, TensorView x, int root) override {
    return late([=, this, &stream] { return inner_->broadcast(stream, x, root); });
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Collectives> split(int color) override {
    return std::make_unique<LateCollectives>(inner_->split(color));
  }
  void abort(const std::string& reason) noexcept override { inner_->abort(reason); }

 private:
  using Start = std::function<std::unique_ptr<Work>()>;
  class LateWork : public Work {
   public:
    explicit LateWork(Start start) : start_(std::move(start)) {}
    void wait() override { start_()->wait(); }

   private:
    Start start_;
  };
  static std::unique_ptr<Work> late(Start start) {
    return std::make_unique<LateWork>(std::move(start));
  }
  static std::vector<int64_t> copy(std::span<const int64_t> counts) {
    return {counts.begin(), counts.end()};
  }

  std::unique_ptr<Collectives> inner_;
};

}  // namespace switchyard::test
