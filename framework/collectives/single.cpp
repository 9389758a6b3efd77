#include "collectives/single.h"

#include <cstring>

#include "collectives/arguments.h"
#include "collectives/launch.h"

namespace switchyard {
namespace {

void copy(TensorView from, TensorView to) {
  if (from.raw() != to.raw() && from.size_bytes() > 0) {
    std::memcpy(to.raw(), from.raw(), from.size_bytes());
  }
}

class SingleCollectives : public Collectives {
 public:
  std::string_view name() const override { return "single"; }
  int rank() const override { return 0; }
  int size() const override { return 1; }

  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp) override {
    check_all_reduce(x);
    stream.synchronize();
    return FinishedWork::make();
  }

  std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                       std::span<const int64_t> part_rows,
                                       TensorView part) override {
    check_reduce_scatter(x, part_rows, part, 0, 1);
    stream.synchronize();
    copy(x, part);
    return FinishedWork::make();
  }

  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override {
    check_all_gather(rows, part_rows, gathered, 0, 1);
    stream.synchronize();
    copy(rows, gathered);
    return FinishedWork::make();
  }

  std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                   std::span<const int64_t> send_rows, TensorView recv,
                                   std::span<const int64_t> recv_rows) override {
    check_all_to_all(send, send_rows, recv, recv_rows, 0, 1);
    stream.synchronize();
    copy(send, recv);
    return FinishedWork::make();
  }

  std::unique_ptr<Work> broadcast(Stream& stream, TensorView, int root) override {
    check_root(root, 1);
    stream.synchronize();
    return FinishedWork::make();
  }

  void barrier() override {}

  std::unique_ptr<Collectives> split(int color) override {
    check_color(color);
    return make_single_collectives();
  }

  void abort(const std::string&) noexcept override {}
};

class SingleJob : public Job {
 public:
  Collectives& world() override { return world_; }
  int ranks_on_this_node() const override { return 1; }
  bool claim_report() noexcept override { return true; }
  void abort(ExitCode) noexcept override {}

 private:
  SingleCollectives world_;
};

}  // namespace

std::unique_ptr<Collectives> make_single_collectives() {
  return std::make_unique<SingleCollectives>();
}

std::unique_ptr<Job> make_single_job() {
  check_ranks_found_each_other(1);
  return std::make_unique<SingleJob>();
}

}  // namespace switchyard
