// What a context of this backend is made of: its stream, and host values on their way to the
// device. Without device code, for .cpp and .cu files alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "ops/exec_context.h"

namespace switchyard::cuda {

class CudaStream;

// The stream of a context whose kernels are CUDA's.
CudaStream& stream_of(const ExecContext& ctx);
cudaStream_t cuda_stream(const ExecContext& ctx);

template <typename T>
struct DeviceSpan {
  const T* data = nullptr;
  int64_t size = 0;
};

// Copies host bytes to the device in the order of the stream; `host` is free when it returns. The
// result lives in ctx.scratch: the caller holds a ScratchScope.
const void* bytes_to_device(ExecContext& ctx, const void* host, size_t size_bytes);

template <typename T>
DeviceSpan<T> to_device(ExecContext& ctx, std::span<const T> host) {
  return {static_cast<const T*>(bytes_to_device(ctx, host.data(), host.size_bytes())),
          static_cast<int64_t>(host.size())};
}
inline DeviceSpan<int64_t> to_device(ExecContext& ctx, LeafOffsets host) {
  return to_device<int64_t>(ctx, host);
}

}  // namespace switchyard::cuda
