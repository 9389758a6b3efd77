// The shared memory of the block that runs: its arrays filled with 0xFF (NaN), apart from one
// another. With AddressSanitizer what lies between them is poisoned; for ThreadSanitizer every
// block of a launch has addresses of its own, since blocks aren't ordered and would seem to race.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace cuda_emulation {

class SharedMemory {
 public:
  static constexpr size_t kStaticLimit = 48 << 10, kLimit = 227 << 10;  // of compute capability 9.0
  static constexpr uint32_t kMaxThreads = 1024;

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Before the blocks of a launch, and before each of them.
  void begin_launch();
  void begin_block(size_t dynamic_bytes);

  void* dynamic() const { return dynamic_; }
  // The array of a place in the source; null if the block's memory or the table of arrays is full.
  void* array(const void* place, size_t size_bytes);

  // Addresses for acquire() and release(), fresh for the block: two for its barrier, two a thread.
  void* barrier_token(unsigned phase) const { return tokens_ + (phase & 1) * kTokenBytes; }
  void* lane_token(uint32_t thread, unsigned phase) const {
    return tokens_ + (2 + 2 * thread + (phase & 1)) * kTokenBytes;
  }

 private:
  struct Array {
    const void* place;
    void* data;
  };
  static constexpr size_t kTokenBytes = 8, kTokens = (2 + 2 * kMaxThreads) * kTokenBytes;
  static constexpr size_t kBlockBytes = kTokens + kLimit + (64 << 10);  // with room between arrays

  void map();
  void* take(size_t size_bytes);

  std::byte *region_ = nullptr, *next_block_ = nullptr, *block_ = nullptr, *free_ = nullptr;
  std::byte *tokens_ = nullptr, *dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0, static_bytes_ = 0, arrays_used_ = 0;
  std::array<Array, 64> arrays_ = {};
};

}  // namespace cuda_emulation
