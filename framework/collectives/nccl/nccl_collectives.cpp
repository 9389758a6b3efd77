#include <algorithm>
#include <cstring>
#include <exception>

#include "backends/cuda/cuda_stream.h"
#include "backends/cuda/gpu_port.h"
#include "base/check.h"
#include "collectives/arguments.h"
#include "collectives/nccl/communicator.h"
#include "collectives/nccl/max_keys.h"
#include "collectives/nccl/nccl.h"
#include "collectives/nccl/nccl_check.h"
#include "tensor/tensor.h"

namespace switchyard {
namespace {

std::byte* bytes_of(TensorView x) { return static_cast<std::byte*>(x.raw()); }

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    default:
      return ncclInt64;
  }
}

// Later work of the stream follows it: nothing is left to wait for.
class EnqueuedWork : public Work, public Reused {
 public:
  explicit EnqueuedWork(NcclCommunicator& communicator) : communicator_(communicator) {}
  void wait() override { communicator_.expect_intact(); }

 private:
  NcclCommunicator& communicator_;
};

// Operations started between its making and end() run as one.
class Grouped {
 public:
  Grouped() { SWITCHYARD_NCCL(ncclGroupStart()); }
  ~Grouped() {
    if (!ended_) ncclGroupEnd();  // an error is on its way
  }
  Grouped(const Grouped&) = delete;
  Grouped& operator=(const Grouped&) = delete;
  void end() {
    ended_ = true;
    SWITCHYARD_NCCL(ncclGroupEnd());
  }

 private:
  bool ended_ = false;
};

bool all_equal(std::span<const int64_t> rows) {
  return std::all_of(rows.begin(), rows.end(), [&](int64_t count) { return count == rows[0]; });
}

class NcclCollectives final : public Collectives {
 public:
  NcclCollectives(ncclComm_t communicator, Collectives& host)
      : communicator_(communicator), host_(host) {}
  NcclCollectives(ncclComm_t communicator, std::unique_ptr<Collectives> host)
      : communicator_(communicator), own_host_(std::move(host)), host_(*own_host_) {}

  std::string_view name() const override { return "nccl"; }
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

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
  void barrier() override { host_.barrier(); }
  std::unique_ptr<Collectives> split(int color) override;
  void abort(const std::string& reason) noexcept override {
    host_.abort(reason);  // ends the job where ranks are processes
    communicator_.abort(reason);
  }

 private:
  std::unique_ptr<Work> started() { return std::make_unique<EnqueuedWork>(communicator_); }

  NcclCommunicator communicator_;
  std::unique_ptr<Collectives> own_host_;  // null: the caller's
  Collectives& host_;
};

std::unique_ptr<Work> NcclCollectives::all_reduce(Stream& stream, TensorView x, ReduceOp op) {
  auto* const on_device = dynamic_cast<cuda::CudaStream*>(&stream);
  if (on_device == nullptr) return host_.all_reduce(stream, x, op);
  check_all_reduce(x);
  if (x.elements() == 0) return started();
  const cudaStream_t queue = on_device->handle();
  const bool as_keys = op == ReduceOp::kMax && x.dtype() != DType::kInt64;
  const ncclDataType_t type = !as_keys                       ? type_of(x.dtype())
                              : x.dtype() == DType::kFloat32 ? ncclInt32
                                                             : ncclInt64;
  if (as_keys) cuda::to_max_keys(x, queue);
  communicator_.use([&](ncclComm_t communicator) {
    SWITCHYARD_NCCL(ncclAllReduce(x.raw(), x.raw(), static_cast<size_t>(x.elements()), type,
                                  op == ReduceOp::kSum ? ncclSum : ncclMax, communicator, queue));
  });
  if (as_keys) cuda::from_max_keys(x, queue);
  return started();
}

std::unique_ptr<Work> NcclCollectives::reduce_scatter(Stream& stream, TensorView x,
                                                      std::span<const int64_t> part_rows,
                                                      TensorView part) {
  auto* const on_device = dynamic_cast<cuda::CudaStream*>(&stream);
  if (on_device == nullptr) return host_.reduce_scatter(stream, x, part_rows, part);
  check_reduce_scatter(x, part_rows, part, rank(), size());
  const cudaStream_t queue = on_device->handle();
  const ncclDataType_t type = type_of(x.dtype());
  const int64_t row = row_bytes(x), element = static_cast<int64_t>(size_of(x.dtype()));
  communicator_.use([&](ncclComm_t communicator) {
    if (all_equal(part_rows)) {
      const auto count = static_cast<size_t>(part.elements());
      if (count == 0) return;
      SWITCHYARD_NCCL(
          ncclReduceScatter(x.raw(), part.raw(), count, type, ncclSum, communicator, queue));
      return;
    }
    Grouped group;
    const std::byte* from = bytes_of(x);
    for (int r = 0; r < size(); ++r) {
      const int64_t bytes = part_rows[static_cast<size_t>(r)] * row;
      if (bytes > 0) {
        SWITCHYARD_NCCL(ncclReduce(from, r == rank() ? part.raw() : nullptr,
                                   static_cast<size_t>(bytes / element), type, ncclSum, r,
                                   communicator, queue));
      }
      from += bytes;
    }
    group.end();
  });
  return started();
}

std::unique_ptr<Work> NcclCollectives::all_gather(Stream& stream, TensorView rows,
                                                  std::span<const int64_t> part_rows,
                                                  TensorView gathered) {
  auto* const on_device = dynamic_cast<cuda::CudaStream*>(&stream);
  if (on_device == nullptr) return host_.all_gather(stream, rows, part_rows, gathered);
  check_all_gather(rows, part_rows, gathered, rank(), size());
  const cudaStream_t queue = on_device->handle();
  const int64_t row = row_bytes(rows);
  communicator_.use([&](ncclComm_t communicator) {
    if (all_equal(part_rows)) {
      const size_t count = rows.size_bytes();
      if (count == 0) return;
      SWITCHYARD_NCCL(
          ncclAllGather(rows.raw(), gathered.raw(), count, ncclUint8, communicator, queue));
      return;
    }
    Grouped group;
    std::byte* to = bytes_of(gathered);
    for (int r = 0; r < size(); ++r) {
      const int64_t bytes = part_rows[static_cast<size_t>(r)] * row;
      if (bytes > 0) {
        SWITCHYARD_NCCL(ncclBroadcast(r == rank() ? rows.raw() : to, to, static_cast<size_t>(bytes),
                                      ncclUint8, r, communicator, queue));
      }
      to += bytes;
    }
    group.end();
  });
  return started();
}

std::unique_ptr<Work> NcclCollectives::all_to_all(Stream& stream, TensorView send,
                                                  std::span<const int64_t> send_rows,
                                                  TensorView recv,
                                                  std::span<const int64_t> recv_rows) {
  auto* const on_device = dynamic_cast<cuda::CudaStream*>(&stream);
  if (on_device == nullptr) return host_.all_to_all(stream, send, send_rows, recv, recv_rows);
  check_all_to_all(send, send_rows, recv, recv_rows, rank(), size());
  const cudaStream_t queue = on_device->handle();
  const int64_t row = row_bytes(send);
  communicator_.use([&](ncclComm_t communicator) {
    Grouped group;
    const std::byte* from = bytes_of(send);
    std::byte* to = bytes_of(recv);
    for (int r = 0; r < size(); ++r) {
      const auto out = static_cast<size_t>(send_rows[static_cast<size_t>(r)] * row);
      const auto in = static_cast<size_t>(recv_rows[static_cast<size_t>(r)] * row);
      if (r == rank()) {
        if (in > 0) GPU_CHECK(cudaMemcpyAsync(to, from, in, cudaMemcpyDeviceToDevice, queue));
      } else {
        if (out > 0) SWITCHYARD_NCCL(ncclSend(from, out, ncclUint8, r, communicator, queue));
        if (in > 0) SWITCHYARD_NCCL(ncclRecv(to, in, ncclUint8, r, communicator, queue));
      }
      from += out;
      to += in;
    }
    group.end();
  });
  return started();
}

std::unique_ptr<Work> NcclCollectives::broadcast(Stream& stream, TensorView x, int root) {
  auto* const on_device = dynamic_cast<cuda::CudaStream*>(&stream);
  if (on_device == nullptr) return host_.broadcast(stream, x, root);
  check_root(root, size());
  if (x.size_bytes() == 0) return started();
  communicator_.use([&](ncclComm_t communicator) {
    SWITCHYARD_NCCL(ncclBroadcast(x.raw(), x.raw(), x.size_bytes(), ncclUint8, root, communicator,
                                  on_device->handle()));
  });
  return started();
}

std::unique_ptr<Collectives> NcclCollectives::split(int color) {
  std::unique_ptr<Collectives> host = host_.split(color);
  ncclComm_t part = nullptr;
  communicator_.use([&](ncclComm_t communicator) {
    SWITCHYARD_NCCL(ncclCommSplit(communicator, color, rank(), &part, nullptr));
  });
  return std::make_unique<NcclCollectives>(part, std::move(host));
}

}  // namespace

std::unique_ptr<Collectives> make_nccl_collectives(Collectives& host) {
  ncclUniqueId id{};
  if (host.rank() == 0) SWITCHYARD_NCCL(ncclGetUniqueId(&id));
  const Tensor bytes(DType::kUint8, {static_cast<int64_t>(sizeof(id))});
  std::memcpy(bytes.view().raw(), &id, sizeof(id));
  InlineStream stream;
  host.broadcast(stream, bytes, 0)->wait();
  std::memcpy(&id, bytes.view().raw(), sizeof(id));
  ncclComm_t communicator = nullptr;
  SWITCHYARD_NCCL(ncclCommInitRank(&communicator, host.size(), id, host.rank()));
  return std::make_unique<NcclCollectives>(communicator, host);
}

}  // namespace switchyard
