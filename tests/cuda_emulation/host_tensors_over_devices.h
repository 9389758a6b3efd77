// Collectives of host tensors that travel through device memory over NCCL: what lets the suite of
// tests/collectives/, which reads and writes plain memory, run on collectives between devices.
#pragma once

#include <list>
#include <memory>

#include "backends/cuda/cuda_memory.h"
#include "backends/cuda/cuda_stream.h"
#include "collectives/collectives.h"
#include "tensor/tensor.h"

namespace switchyard::test {

class HostTensorsOverDevices final : public Collectives {
 public:
  //   devices  collectives on `stream`
  HostTensorsOverDevices(std::unique_ptr<Collectives> devices, Memory& memory, Stream& stream)
      : devices_(std::move(devices)), memory_(memory), stream_(stream) {}

  std::string_view name() const override { return devices_->name(); }
  int rank() const override { return devices_->rank(); }
  int size() const override { return devices_->size(); }

  std::unique_ptr<Work> all_reduce(Stream&, TensorView x, ReduceOp op) override {
    auto staged = std::make_unique<Staged>(*this);
    staged->work = devices_->all_reduce(stream_, staged->both_ways(x), op);
    return staged;
  }
  std::unique_ptr<Work> reduce_scatter(Stream&, TensorView x, std::span<const int64_t> part_rows,
                                       TensorView part) override {
    auto staged = std::make_unique<Staged>(*this);
    const TensorView on_device = staged->in(x);
    staged->work =
        devices_->reduce_scatter(stream_, on_device, part_rows, staged->out_of(x, on_device, part));
    return staged;
  }
  std::unique_ptr<Work> all_gather(Stream&, TensorView rows, std::span<const int64_t> part_rows,
                                   TensorView gathered) override {
    auto staged = std::make_unique<Staged>(*this);
    const TensorView on_device = staged->both_ways(gathered);
    staged->work = devices_->all_gather(stream_, staged->in_of(gathered, on_device, rows),
                                        part_rows, on_device);
    return staged;
  }
  std::unique_ptr<Work> all_to_all(Stream&, TensorView send, std::span<const int64_t> send_rows,
                                   TensorView recv, std::span<const int64_t> recv_rows) override {
    auto staged = std::make_unique<Staged>(*this);
    const TensorView from = staged->in(send);
    staged->work =
        devices_->all_to_all(stream_, from, send_rows, staged->both_ways(recv), recv_rows);
    return staged;
  }
  std::unique_ptr<Work> broadcast(Stream&, TensorView x, int root) override {
    auto staged = std::make_unique<Staged>(*this);
    staged->work = devices_->broadcast(stream_, staged->both_ways(x), root);
    return staged;
  }
  void barrier() override { devices_->barrier(); }
  std::unique_ptr<Collectives> split(int color) override {
    return std::make_unique<HostTensorsOverDevices>(devices_->split(color), memory_, stream_);
  }
  void abort(const std::string& reason) noexcept override { devices_->abort(reason); }

 private:
  // Holds the device's copies of an operation's tensors; brings results back at its end.
  struct Staged : Work {
    explicit Staged(HostTensorsOverDevices& maker) : owner(maker) {}

    TensorView in(TensorView host) {
      TensorView copy = copies.emplace_back(host.dtype(), host.shape(), owner.memory_).view();
      owner.memory_.copy_in(copy.raw(), host.raw(), host.size_bytes());
      return copy;
    }
    TensorView both_ways(TensorView host) {
      const TensorView copy = in(host);
      results.push_back({host, copy});
      return copy;
    }
    // Where `part` lies in the copy of `whole`, if it is a part of it, else a copy of its own.
    TensorView place_in(TensorView whole, TensorView on_device, TensorView part) {
      const auto* first = static_cast<const std::byte*>(whole.raw());
      const auto* at = static_cast<const std::byte*>(part.raw());
      if (part.size_bytes() == 0 || at < first || at >= first + whole.size_bytes()) return {};
      return TensorView(static_cast<std::byte*>(on_device.raw()) + (at - first), part.dtype(),
                        part.shape());
    }
    TensorView in_of(TensorView whole, TensorView on_device, TensorView part) {
      const TensorView inside = place_in(whole, on_device, part);
      return inside.absent() ? in(part) : inside;
    }
    TensorView out_of(TensorView whole, TensorView on_device, TensorView part) {
      const TensorView inside = place_in(whole, on_device, part);
      if (inside.absent()) return both_ways(part);
      results.push_back({part, inside});
      return inside;
    }
    void wait() override {
      work->wait();
      owner.stream_.synchronize();
      for (const auto& [host, copy] : results) {
        owner.memory_.copy_out(host.raw(), copy.raw(), host.size_bytes());
      }
      results.clear();
    }

    HostTensorsOverDevices& owner;
    std::unique_ptr<Work> work;
    std::list<Tensor> copies;
    std::vector<std::pair<TensorView, TensorView>> results;
  };

  std::unique_ptr<Collectives> devices_;
  Memory& memory_;
  Stream& stream_;
};

}  // namespace switchyard::test
