#include "cuda_emulation/staged_collectives.h"

#include "collectives/arguments.h"
#include "cuda_runtime.h"
#include "tensor/tensor.h"

namespace switchyard::test {
namespace {

// A tensor as the host may read and write it: itself, or a copy.
class OnHost {
 public:
  OnHost(Memory& device, TensorView x) : device_(device), x_(x) {
    if (x.size_bytes() == 0 || !cuda_emulation::is_device_pointer(x.raw())) return;
    copy_ = Tensor(x.dtype(), x.shape());
    device_.copy_out(copy_.view().raw(), x.raw(), x.size_bytes());
  }
  TensorView view() const { return is_copy() ? copy_.view() : x_; }
  void write_back() {
    if (is_copy()) device_.copy_in(x_.raw(), copy_.view().raw(), x_.size_bytes());
  }

 private:
  bool is_copy() const { return copy_.size_bytes() > 0; }

  Memory& device_;
  TensorView x_;
  Tensor copy_;
};

}  // namespace

std::unique_ptr<Work> StagedCollectives::all_reduce(Stream& stream, TensorView x, ReduceOp op) {
  stream.synchronize();
  OnHost host(device_, x);
  InlineStream here;
  inner_.all_reduce(here, host.view(), op)->wait();
  host.write_back();
  return FinishedWork::make();
}

std::unique_ptr<Work> StagedCollectives::reduce_scatter(Stream& stream, TensorView x,
                                                        std::span<const int64_t> part_rows,
                                                        TensorView part) {
  stream.synchronize();
  OnHost from(device_, x), to(device_, part);
  InlineStream here;
  inner_.reduce_scatter(here, from.view(), part_rows, to.view())->wait();
  to.write_back();
  return FinishedWork::make();
}

std::unique_ptr<Work> StagedCollectives::all_gather(Stream& stream, TensorView rows,
                                                    std::span<const int64_t> part_rows,
                                                    TensorView gathered) {
  stream.synchronize();
  OnHost from(device_, rows), to(device_, gathered);
  InlineStream here;
  inner_.all_gather(here, from.view(), part_rows, to.view())->wait();
  to.write_back();
  return FinishedWork::make();
}

std::unique_ptr<Work> StagedCollectives::all_to_all(Stream& stream, TensorView send,
                                                    std::span<const int64_t> send_rows,
                                                    TensorView recv,
                                                    std::span<const int64_t> recv_rows) {
  stream.synchronize();
  OnHost from(device_, send), to(device_, recv);
  InlineStream here;
  inner_.all_to_all(here, from.view(), send_rows, to.view(), recv_rows)->wait();
  to.write_back();
  return FinishedWork::make();
}

std::unique_ptr<Work> StagedCollectives::broadcast(Stream& stream, TensorView x, int root) {
  stream.synchronize();
  OnHost host(device_, x);
  InlineStream here;
  inner_.broadcast(here, host.view(), root)->wait();
  host.write_back();
  return FinishedWork::make();
}

std::unique_ptr<Collectives> StagedCollectives::split(int color) {
  return std::unique_ptr<Collectives>(new StagedCollectives(inner_.split(color)));
}

}  // namespace switchyard::test
