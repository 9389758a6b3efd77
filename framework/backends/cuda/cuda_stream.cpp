#include "backends/cuda/cuda_stream.h"

#include <algorithm>
#include <cstring>

#include "backends/cuda/cuda_context.h"
#include "backends/cuda/gpu_port.h"
#include "tensor/memory_use.h"

namespace switchyard::cuda {

CudaEvent::CudaEvent(cudaStream_t stream) {
  GPU_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
  GPU_CHECK(cudaEventRecord(event_, stream));
}

CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

void CudaEvent::wait() { GPU_CHECK(cudaEventSynchronize(event_)); }

static constexpr size_t kFirstHalfBytes = size_t{256} << 10;

StagingRing::StagingRing(cudaStream_t stream) : stream_(stream) { allocate(kFirstHalfBytes); }

StagingRing::~StagingRing() {
  for (Half& half : halves_) cudaFreeHost(half.data);
}

void StagingRing::allocate(size_t half_bytes) {
  for (Half& half : halves_) {
    void* data = nullptr;
    GPU_CHECK(cudaMallocHost(&data, half_bytes));
    half.data = static_cast<std::byte*>(data);
  }
  half_bytes_ = half_bytes;
  used_bytes_ = 0;
}

void StagingRing::release() {
  GPU_CHECK(cudaStreamSynchronize(stream_));
  for (Half& half : halves_) {
    GPU_CHECK(cudaFreeHost(std::exchange(half.data, nullptr)));
    half.read.reset();
  }
}

void StagingRing::make_room(size_t size_bytes) {
  if (size_bytes > half_bytes_) {
    release();
    allocate(2 * size_bytes);
  } else if (used_bytes_ + size_bytes > half_bytes_) {
    halves_[current_].read = std::make_unique<CudaEvent>(stream_);
    current_ = 1 - current_;
    used_bytes_ = 0;
    if (halves_[current_].read) halves_[current_].read->wait();
  }
}

void StagingRing::upload(void* target, const void* host, size_t size_bytes) {
  if (size_bytes == 0) return;
  make_room(size_bytes);
  std::byte* staged = halves_[current_].data + used_bytes_;
  std::memcpy(staged, host, size_bytes);
  GPU_CHECK(cudaMemcpyAsync(target, staged, size_bytes, cudaMemcpyHostToDevice, stream_));
  used_bytes_ += (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

CudaStream::CudaStream(Memory& memory) : memory_(memory) {
  // Not blocking: nothing here runs on the default stream.
  GPU_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  staging_ = std::make_unique<StagingRing>(stream_);
}

CudaStream::~CudaStream() {
  cudaStreamSynchronize(stream_);
  staging_.reset();
  if (workspace_ != nullptr) memory_.release(workspace_);
  cudaStreamDestroy(stream_);
}

std::unique_ptr<Event> CudaStream::record() { return std::make_unique<CudaEvent>(stream_); }

void CudaStream::wait(Event& event) {
  if (const auto* on_device = dynamic_cast<const CudaEvent*>(&event)) {
    GPU_CHECK(cudaStreamWaitEvent(stream_, on_device->handle(), 0));
  } else {
    event.wait();
  }
}

void CudaStream::synchronize() { GPU_CHECK(cudaStreamSynchronize(stream_)); }

ProductWorkspace CudaStream::product_workspace() {
  if (workspace_ == nullptr) {
    const MemoryUseScope scope(memory_, "cuBLAS");
    workspace_ = memory_.allocate(kWorkspaceBytes);
  }
  return {workspace_, kWorkspaceBytes};
}

CudaStream& stream_of(const ExecContext& ctx) {
  auto* stream = dynamic_cast<CudaStream*>(&ctx.stream);
  SWITCHYARD_CHECK(stream != nullptr, "CUDA kernels on the stream of another backend");
  return *stream;
}

cudaStream_t cuda_stream(const ExecContext& ctx) { return stream_of(ctx).handle(); }

const void* bytes_to_device(ExecContext& ctx, const void* host, size_t size_bytes) {
  const TensorView target = ctx.scratch.allocate(DType::kUint8, {static_cast<int64_t>(size_bytes)});
  stream_of(ctx).staging().upload(target.raw(), host, size_bytes);
  return target.raw();
}

}  // namespace switchyard::cuda
