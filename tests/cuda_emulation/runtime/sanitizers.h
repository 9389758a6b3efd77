// What the emulation tells AddressSanitizer and ThreadSanitizer. The runtime itself is compiled
// without them, since its own reads and writes are no accesses of a device; the kernels are
// compiled with them. CUDA_EMULATION_ADDRESS and CUDA_EMULATION_THREAD say which one the program
// has.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef CUDA_EMULATION_ADDRESS
extern "C" {
void __asan_poison_memory_region(const volatile void* data, size_t size);
void __asan_unpoison_memory_region(const volatile void* data, size_t size);
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
}
#endif

#ifdef CUDA_EMULATION_THREAD
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* token);
void __tsan_release(void* token);
}
#endif

namespace cuda_emulation {

#ifdef CUDA_EMULATION_THREAD
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

// No access to these bytes is legal from here on, or every one.
inline void poison([[maybe_unused]] const void* data, [[maybe_unused]] size_t size) {
#ifdef CUDA_EMULATION_ADDRESS
  __asan_poison_memory_region(data, size);
#endif
}
inline void unpoison([[maybe_unused]] const void* data, [[maybe_unused]] size_t size) {
#ifdef CUDA_EMULATION_ADDRESS
  __asan_unpoison_memory_region(data, size);
#endif
}

// What the caller did before a release of a token happens before what follows an acquire of it.
inline void release([[maybe_unused]] void* token) {
#ifdef CUDA_EMULATION_THREAD
  __tsan_release(token);
#endif
}
inline void acquire([[maybe_unused]] void* token) {
#ifdef CUDA_EMULATION_THREAD
  __tsan_acquire(token);
#endif
}

// A thread of execution as ThreadSanitizer sees it; null without it. Switching orders nothing.
inline void* make_execution() {
#ifdef CUDA_EMULATION_THREAD
  return __tsan_create_fiber(0);
#else
  return nullptr;
#endif
}
inline void end_execution([[maybe_unused]] void* execution) {
#ifdef CUDA_EMULATION_THREAD
  if (execution != nullptr) __tsan_destroy_fiber(execution);
#endif
}
inline void* current_execution() {
#ifdef CUDA_EMULATION_THREAD
  return __tsan_get_current_fiber();
#else
  return nullptr;
#endif
}
inline void switch_execution([[maybe_unused]] void* execution) {
#ifdef CUDA_EMULATION_THREAD
  constexpr unsigned kOrdersNothing = 1;
  __tsan_switch_to_fiber(execution, kOrdersNothing);
#endif
}

// Writes bytes without the sanitizers' seeing it (they watch memset wherever it is called).
inline void fill_unseen(void* data, uint8_t byte, size_t size) {
  asm volatile("rep stosb" : "+D"(data), "+c"(size) : "a"(byte) : "memory");
}

}  // namespace cuda_emulation
