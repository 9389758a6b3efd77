// What a kernel calls that isn't C++: its place in the grid, barriers, warp collectives, atomics.
// One thread of a block runs at a time; whatever waits hands over to the block's scheduler
// (runtime/block.h), with the place in the source for reports.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

// Set before a thread runs. Not thread_local: UBSan takes its wrapper for a null pointer.
extern __thread uint3 threadIdx, blockIdx;
extern __thread uint3 blockDim, gridDim;

namespace cuda_emulation {

using Where = std::source_location;

// The block's array of this place in the source, made by the first thread that asks; all bytes
// 0xFF.
void* shared_array(const void* place, size_t size_bytes);
void* dynamic_shared();

enum class BlockOperation : uint8_t { kSync, kCount, kAnd, kOr };
// Waits for all threads of the block; the combined predicates.
int block_barrier(BlockOperation operation, int predicate, Where where);

enum class WarpOperation : uint8_t {
  kSync,
  kShuffle,
  kBallot,
  kMatchAny,
  kAdd,
  kMinSigned,
  kMaxSigned,
  kMinUnsigned,
  kMaxUnsigned,
  kAnd,
  kOr,
  kXor
};
// Waits for the lanes of the mask. A shuffle gives the value of lane `source`, everything else what
// the operation makes of all lanes' values.
uint64_t warp_exchange(WarpOperation operation, unsigned mask, uint64_t value, int source,
                       Where where);
// The calling thread's lane.
int lane();

template <typename T>
uint64_t word_of(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof(T));
  return word;
}

template <typename T>
T value_of(uint64_t word) {
  T value;
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}

template <typename T>
T shuffle(unsigned mask, T value, int source, Where where) {
  return value_of<T>(warp_exchange(WarpOperation::kShuffle, mask, word_of(value), source, where));
}

}  // namespace cuda_emulation

inline void __syncthreads(cuda_emulation::Where where = cuda_emulation::Where::current()) {
  cuda_emulation::block_barrier(cuda_emulation::BlockOperation::kSync, 0, where);
}
inline int __syncthreads_count(int predicate,
                               cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BlockOperation::kCount, predicate, where);
}
inline int __syncthreads_and(int predicate,
                             cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BlockOperation::kAnd, predicate, where);
}
inline int __syncthreads_or(int predicate,
                            cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BlockOperation::kOr, predicate, where);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu,
                       cuda_emulation::Where where = cuda_emulation::Where::current()) {
  cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kSync, mask, 0, 0, where);
}

// Lanes of one segment of `width` exchange values; a lane whose source lies outside keeps its own.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              cuda_emulation::Where where = cuda_emulation::Where::current()) {
  const int first = cuda_emulation::lane() & ~(width - 1);
  return cuda_emulation::shuffle(mask, value, first | (source & (width - 1)), where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cuda_emulation::Where where = cuda_emulation::Where::current()) {
  const int lane = cuda_emulation::lane(), first = lane & ~(width - 1);
  const int source = lane - static_cast<int>(delta);
  return cuda_emulation::shuffle(mask, value, source < first ? lane : source, where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cuda_emulation::Where where = cuda_emulation::Where::current()) {
  const int lane = cuda_emulation::lane(), last = lane | (width - 1);
  const int source = lane + static_cast<int>(delta);
  return cuda_emulation::shuffle(mask, value, source > last ? lane : source, where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  cuda_emulation::Where where = cuda_emulation::Where::current()) {
  const int lane = cuda_emulation::lane(), last = lane | (width - 1);
  const int source = lane ^ bits;
  return cuda_emulation::shuffle(mask, value, source > last ? lane : source, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<unsigned>(cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kBallot,
                                                             mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate,
                      cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
// The least that the language promises: only the caller is known to be active.
inline unsigned __activemask() { return 1u << cuda_emulation::lane(); }

template <typename T>
unsigned __match_any_sync(unsigned mask, T value,
                          cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<unsigned>(cuda_emulation::warp_exchange(
      cuda_emulation::WarpOperation::kMatchAny, mask, cuda_emulation::word_of(value), 0, where));
}

template <typename T>
requires(std::is_integral_v<T> && sizeof(T) == 4) T
    __reduce_add_sync(unsigned mask, T value,
                      cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<T>(cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kAdd, mask,
                                                      static_cast<uint32_t>(value), 0, where));
}
template <typename T>
requires(std::is_integral_v<T> && sizeof(T) == 4) T
    __reduce_min_sync(unsigned mask, T value,
                      cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<T>(cuda_emulation::warp_exchange(
      std::is_signed_v<T> ? cuda_emulation::WarpOperation::kMinSigned
                          : cuda_emulation::WarpOperation::kMinUnsigned,
      mask, static_cast<uint32_t>(value), 0, where));
}
template <typename T>
requires(std::is_integral_v<T> && sizeof(T) == 4) T
    __reduce_max_sync(unsigned mask, T value,
                      cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<T>(cuda_emulation::warp_exchange(
      std::is_signed_v<T> ? cuda_emulation::WarpOperation::kMaxSigned
                          : cuda_emulation::WarpOperation::kMaxUnsigned,
      mask, static_cast<uint32_t>(value), 0, where));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<unsigned>(
      cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kAnd, mask, value, 0, where));
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<unsigned>(
      cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kOr, mask, value, 0, where));
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                  cuda_emulation::Where where = cuda_emulation::Where::current()) {
  return static_cast<unsigned>(
      cuda_emulation::warp_exchange(cuda_emulation::WarpOperation::kXor, mask, value, 0, where));
}

// Atomics are relaxed, as on the device; each returns the value before.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <typename T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_sub(value, std::memory_order_relaxed);
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_or(value, std::memory_order_relaxed);
}
template <typename T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_and(value, std::memory_order_relaxed);
}
template <typename T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_xor(value, std::memory_order_relaxed);
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> cell(*address);
  T old = cell.load(std::memory_order_relaxed);
  while (old < value && !cell.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> cell(*address);
  T old = cell.load(std::memory_order_relaxed);
  while (value < old && !cell.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

// Loads and stores with a hint for the cache.
template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <typename T>
void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
