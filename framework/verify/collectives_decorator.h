// Collectives that hand everything on to others: a base for those that change one operation.
#pragma once

#include "collectives/collectives.h"

namespace switchyard {

class CollectivesDecorator : public Collectives {
 public:
  explicit CollectivesDecorator(Collectives& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override {
    return inner_.all_reduce(stream, x, op);
  }
  std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                       std::span<const int64_t> part_rows,
                                       TensorView part) override {
    return inner_.reduce_scatter(stream, x, part_rows, part);
  }
  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override {
    return inner_.all_gather(stream, rows, part_rows, gathered);
  }
  std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                   std::span<const int64_t> send_rows, TensorView recv,
                                   std::span<const int64_t> recv_rows) override {
    return inner_.all_to_all(stream, send, send_rows, recv, recv_rows);
  }
  std::unique_ptr<Work> broadcast(Stream& stream, TensorView x, int root) override {
    return inner_.broadcast(stream, x, root);
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Collectives> split(int color) override { return inner_.split(color); }
  void abort(const std::string& reason) noexcept override { inner_.abort(reason); }

 protected:
  Collectives& inner_;
};

}  // namespace switchyard
