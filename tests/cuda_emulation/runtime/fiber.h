// Stacks that a thread of the host runs on in turn: one for each emulated thread of a block.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace cuda_emulation {

class Fiber {
 public:
  static constexpr size_t kStackBytes = size_t{128} << 10;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // The next resume() calls body(), which must end in suspend() and never return.
  void prepare(std::byte* stack, void (*body)());
  // Runs the fiber until it suspends. Called on the host's own stack.
  void resume();
  // Back to who resumed it. Called on the fiber's stack.
  void suspend();
  // A release of the token on the fiber's behalf: see sanitizers.h.
  void release_as_fiber(void* token);

 private:
  static void enter();
  void arrived(void* fake_stack);

  std::byte* stack_ = nullptr;
  void (*body_)() = nullptr;
  void* stack_pointer_ = nullptr;
  void* caller_stack_pointer_ = nullptr;
  void* execution_ = nullptr;  // see sanitizers.h
  void* caller_execution_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_bytes_ = 0;
};

// Fibers of one stream at a time; kept for the next stream, since making them is slow.
class FiberPool {
 public:
  explicit FiberPool(void (*body)()) : body_(body) {}
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  // At least `count` fibers, each waiting for its next resume().
  void reserve(size_t count);
  Fiber& operator[](size_t i) { return *fibers_[i]; }
  // After an error: whatever the fibers were at, they start anew. What they did happens before what
  // follows an acquire of the token (see sanitizers.h).
  void restart(void* token);

 private:
  static constexpr size_t kChunk = 128;  // fibers whose stacks are taken at once

  std::byte* stack_of(size_t i) const;

  void (*body_)();
  std::vector<std::byte*> chunks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
};

}  // namespace cuda_emulation
