// Launches with their types kept, and work of the fake libraries on a stream.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace cuda_emulation {

// Whether a kernel may be given this pointer: null, or into memory of the device or pinned memory.
bool is_device_pointer(const void* pointer);

// Enqueues a kernel; `thread` is what every thread of the grid runs. `misplaced` is the number of
// the first argument that is a host pointer, or 0.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, int misplaced,
                   std::function<void()> thread);

// Runs `work` on the host when its turn in the stream comes, where it may touch device memory: what
// the fakes of cuBLAS and NCCL are made of.
void enqueue(cudaStream_t stream, std::function<void()> work);

// What the emulation last found wrong.
const char* last_report();

template <typename T>
bool is_misplaced(const T& argument) {
  if constexpr (std::is_pointer_v<T>) {
    return !is_device_pointer(argument);
  } else {
    return false;
  }
}

}  // namespace cuda_emulation

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> values(std::forward<Arguments>(arguments)...);
  int misplaced = 0, number = 0;
  std::apply(
      [&](const auto&... value) {
        ((++number, misplaced == 0 && cuda_emulation::is_misplaced(value) ? misplaced = number : 0),
         ...);
      },
      values);
  return cuda_emulation::launch(
      *config, reinterpret_cast<const void*>(kernel), misplaced,
      [kernel, values = std::move(values)] { std::apply(kernel, values); });
}
