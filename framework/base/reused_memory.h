// Memory for host objects that come and go in every step: lists of counts, values read back,
// finished Works. What one of them gives up goes to a store of its thread, and the next of about
// its size takes it from there: a step takes from the heap only what no step before it needed.
// Sizes should follow from bounds, not from counts seen, so that this ends after the first steps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace switchyard {

// Bytes aligned for any type. Throws std::bad_alloc.
void* take_reused_memory(size_t size_bytes);
// May be called on any thread: the memory stays with the one that calls.
void give_back_reused_memory(void* memory) noexcept;

template <typename T>
struct ReusedAllocator {
  using value_type = T;

  ReusedAllocator() = default;
  template <typename Other>
  ReusedAllocator(const ReusedAllocator<Other>&) {}  // NOLINT: containers convert allocators

  T* allocate(size_t count) { return static_cast<T*>(take_reused_memory(count * sizeof(T))); }
  void deallocate(T* memory, size_t) noexcept { give_back_reused_memory(memory); }
  bool operator==(const ReusedAllocator&) const { return true; }
};

template <typename T>
using ReusedVector = std::vector<T, ReusedAllocator<T>>;
template <typename T>
bool operator==(const ReusedVector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// Base of classes whose objects are made on the heap in every step.
struct Reused {
  static void* operator new(size_t size_bytes) { return take_reused_memory(size_bytes); }
  static void operator delete(void* memory) noexcept { give_back_reused_memory(memory); }
};

}  // namespace switchyard
