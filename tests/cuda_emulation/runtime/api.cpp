// The functions of CUDA's runtime that the project calls, declared by NVIDIA's headers.
#include <cstdlib>
#include <cstring>

#include "device.h"
#include "sanitizers.h"

namespace cuda_emulation {
namespace {

constexpr size_t kMemoryBytes = size_t{64} << 30;

thread_local int current_device = 0;

int device_count() {
  const char* count = std::getenv("CUDA_EMULATION_DEVICES");
  return count == nullptr ? 8 : std::atoi(count);
}

Device& device() { return Device::instance(); }
std::lock_guard<std::recursive_mutex> locked() {
  return std::lock_guard<std::recursive_mutex>(device().lock());
}

std::map<const void*, size_t>& allowed_shared_bytes() {
  static std::map<const void*, size_t> allowed;
  return allowed;
}

// What a copy may be given, and whether it must be done before the call returns.
cudaError_t check_copy(void* target, const void* source, size_t size, cudaMemcpyKind kind,
                       bool& pageable) {
  bool long_target = false, long_source = false;
  const Device::Place to = device().place_of(target, size, long_target);
  const Device::Place from = device().place_of(source, size, long_source);
  const bool to_device = to == Device::Place::kDevice, from_device = from == Device::Place::kDevice;
  pageable = to == Device::Place::kPageable || from == Device::Place::kPageable;
  if (size == 0) return cudaSuccess;
  if (long_target || long_source) {
    return device().fail(cudaErrorInvalidValue, "a copy runs past the end of an allocation");
  }
  const bool matches =
      kind == cudaMemcpyDefault ||
      (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
       from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!matches) return device().fail(cudaErrorInvalidValue, "a copy of another kind than it says");
  return cudaSuccess;
}

cudaError_t fill(void* target, int byte, size_t size, cudaStream_t stream) {
  bool too_long = false;
  if (size == 0) return cudaSuccess;
  if (device().place_of(target, size, too_long) != Device::Place::kDevice || too_long) {
    return device().fail(cudaErrorInvalidValue, "memset of what is no device memory");
  }
  device().enqueue(stream, [=] { std::memset(target, byte, size); });
  return cudaSuccess;
}

}  // namespace

bool is_device_pointer(const void* pointer) {
  const auto lock = locked();
  return device().holds(pointer);
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  const auto lock = locked();
  device().enqueue(stream, std::move(work));
}

const char* last_report() { return device().report.c_str(); }

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, int misplaced,
                   std::function<void()> thread) {
  const auto lock = locked();
  const dim3 grid = config.gridDim, block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > SharedMemory::kMaxThreads || block.z > 64) {
    return device().fail(cudaErrorInvalidConfiguration, "a grid or block of a forbidden size");
  }
  const auto allowed = allowed_shared_bytes().find(kernel);
  const size_t limit =
      allowed == allowed_shared_bytes().end() ? SharedMemory::kStaticLimit : allowed->second;
  if (config.dynamicSmemBytes > limit) {
    return device().fail(cudaErrorInvalidValue, "more dynamic shared memory than the kernel may");
  }
  if (misplaced > 0) {
    return device().fail(cudaErrorInvalidValue, "argument " + std::to_string(misplaced) +
                                                    " of a kernel points into the host's memory");
  }
  CUstream_st* stream = device().stream_of(config.stream);
  auto work =
      std::make_shared<Kernel>(Kernel{grid, block, config.dynamicSmemBytes, std::move(thread)});
  // The stream alone holds it, and frees it in its turn.
  device().enqueue(stream,
                   [work = std::move(work), stream] { device().run_kernel(*work, *stream); });
  return cudaSuccess;
}

}  // namespace cuda_emulation

using cuda_emulation::device;
using cuda_emulation::Device;
using cuda_emulation::locked;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = cuda_emulation::device_count();
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDevice(int* number) {
  *number = cuda_emulation::current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) {
  if (number < 0 || number >= cuda_emulation::device_count()) return cudaErrorInvalidDevice;
  cuda_emulation::current_device = number;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = cuda_emulation::kMemoryBytes;
  properties->sharedMemPerBlock = cuda_emulation::SharedMemory::kStaticLimit;
  properties->sharedMemPerBlockOptin = cuda_emulation::SharedMemory::kLimit;
  properties->sharedMemPerMultiprocessor = cuda_emulation::SharedMemory::kLimit + 1024;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = properties->maxThreadsDim[0] = properties->maxThreadsDim[1] =
      1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = INT32_MAX;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->multiProcessorCount = 4;
  properties->major = 9;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int number) {
  cudaDeviceProp properties;
  cudaGetDeviceProperties(&properties, number);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    default:
      return device().fail(cudaErrorInvalidValue, "an attribute that the emulation doesn't know");
  }
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const auto lock = locked();
  *total_bytes = cuda_emulation::kMemoryBytes;
  *free_bytes = cuda_emulation::kMemoryBytes - device().used_bytes();
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(device().last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return device().last_error; }
const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorNotReady:
      return "device not ready";
    default:
      return cuda_emulation::last_report();
  }
}
const char* cudaGetErrorName(cudaError_t status) { return cudaGetErrorString(status); }

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const auto lock = locked();
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > cuda_emulation::SharedMemory::kLimit) {
    return device().fail(cudaErrorInvalidValue, "more shared memory than a block has");
  }
  cuda_emulation::allowed_shared_bytes()[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaFuncGetName(const char** name, const void*) {
  *name = "launched here";
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t size_bytes) {
  const auto lock = locked();
  const bool fits = size_bytes <= cuda_emulation::kMemoryBytes - device().used_bytes();
  *data = size_bytes == 0 || !fits ? nullptr : device().allocate(size_bytes, false);
  if (*data == nullptr && size_bytes > 0) return device().last_error = cudaErrorMemoryAllocation;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  const auto lock = locked();
  return device().release(data, false);
}
cudaError_t cudaHostAlloc(void** data, size_t size_bytes, unsigned) {
  const auto lock = locked();
  *data = size_bytes == 0 ? nullptr : device().allocate(size_bytes, true);
  if (*data == nullptr && size_bytes > 0) return device().last_error = cudaErrorMemoryAllocation;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, size_t size_bytes) {
  return cudaHostAlloc(data, size_bytes, 0);
}
cudaError_t cudaFreeHost(void* data) {
  const auto lock = locked();
  return device().release(data, true);
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const auto lock = locked();
  bool pageable = false;
  const cudaError_t status = cuda_emulation::check_copy(target, source, size, kind, pageable);
  if (status != cudaSuccess || size == 0) return status;
  device().enqueue(stream, [=] { std::memcpy(target, source, size); });
  if (!pageable) return cudaSuccess;
  device().finish(stream);
  return device().take_error();
}
cudaError_t cudaMemcpy(void* target, const void* source, size_t size, cudaMemcpyKind kind) {
  const auto lock = locked();
  const cudaError_t status = cudaMemcpyAsync(target, source, size, kind, nullptr);
  if (status != cudaSuccess) return status;
  device().finish(static_cast<cudaStream_t>(nullptr));
  return device().take_error();
}
cudaError_t cudaMemsetAsync(void* target, int byte, size_t size, cudaStream_t stream) {
  const auto lock = locked();
  return cuda_emulation::fill(target, byte, size, stream);
}
cudaError_t cudaMemset(void* target, int byte, size_t size) {
  const auto lock = locked();
  return cuda_emulation::fill(target, byte, size, nullptr);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  const auto lock = locked();
  *stream = device().make_stream(!(flags & cudaStreamNonBlocking));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -1;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = locked();
  device().end_stream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto lock = locked();
  device().finish(stream);
  return device().take_error();
}
cudaError_t cudaDeviceSynchronize() {
  const auto lock = locked();
  device().finish_all();
  return device().take_error();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const auto lock = locked();
  device().advance(stream);
  if (!device().stream_of(stream)->queue.empty()) return cudaErrorNotReady;
  device().finish(stream);
  return device().take_error();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto lock = locked();
  if (event->last) device().enqueue(stream, {}, event->last);
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const auto lock = locked();
  device().enqueue(stream, [=] { function(data); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto lock = locked();
  auto point = std::make_shared<cuda_emulation::Point>();
  point->stream = device().stream_of(stream);
  event->last = point;
  device().enqueue(stream, [point] {
    point->reached = true;
    cuda_emulation::release(&point->token);
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto lock = locked();
  if (event->last && !event->last->reached) device().finish(*event->last);
  if (event->last) cuda_emulation::acquire(&event->last->token);
  return device().take_error();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto lock = locked();
  if (!event->last) return cudaSuccess;
  if (!event->last->reached) device().advance(event->last->stream);
  if (!event->last->reached) return cudaErrorNotReady;
  cuda_emulation::acquire(&event->last->token);
  return device().take_error();
}
// No time passes here.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

}  // extern "C"
