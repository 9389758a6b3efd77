// Runs the blocks of a kernel one after another, and the threads of a block in turns: a thread runs
// until it waits at a barrier or for its warp, then the schedule says who is next.
#pragma once

#include <functional>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"
#include "schedule.h"
#include "shared_memory.h"

namespace cuda_emulation {

struct Kernel {
  dim3 grid, block;
  size_t dynamic_bytes = 0;
  std::function<void()> thread;  // what each thread runs
};

// One per thread of the host.
class BlockRunner {
 public:
  static BlockRunner& instance();
  // What every fiber of a pool given to run() has as its body.
  static void fiber_body();

  // Returns what was found wrong, or nothing. Then the kernel was left in the middle.
  std::string run(const Kernel& kernel, FiberPool& fibers, Schedule& schedule);

  // On behalf of the thread that runs: see cuda_emulation/device.h.
  int block_barrier(BlockOperation operation, int predicate, Where where);
  uint64_t warp_exchange(WarpOperation operation, unsigned mask, uint64_t value, int source,
                         Where where);
  void* shared_array(const void* place, size_t size_bytes);
  void* dynamic_shared() const { return shared_.dynamic(); }
  int lane() const { return static_cast<int>(current_->number % 32); }

 private:
  enum class State : uint8_t { kReady, kAtBarrier, kInWarp, kReturned };

  struct Thread {
    uint32_t number = 0;
    uint3 index = {};
    Fiber* fiber = nullptr;
    State state = State::kReady;
    uint64_t priority = 0;
    Where where = {};  // of what it waits at
    BlockOperation block_operation = {};
    int predicate = 0;
    WarpOperation warp_operation = {};
    unsigned mask = 0;
    uint64_t value = 0, result = 0;
    int source = 0;
    unsigned syncs = 0;      // __syncwarp()s so far
    unsigned odd_lanes = 0;  // those whose count was odd in the last one
  };

  struct Turn {
    uint64_t when;
    uint32_t thread;
    bool operator>(const Turn& other) const { return when > other.when; }
  };

  void run_block(const Kernel& kernel, uint3 block, FiberPool& fibers);
  std::vector<uint64_t> order_of_blocks(uint64_t count);
  void make_ready(Thread& thread);
  void wait(Thread& thread, State state, Where where);
  [[noreturn]] void fail(const std::string& what);
  void release_block();
  void release_warp(Thread* warp, unsigned mask);
  void check_lanes(const Thread& thread, Thread* warp);
  bool all_wait(const Thread& thread, const Thread* warp) const;
  std::string who_waits() const;
  std::string place_of_block() const;

  const Kernel* kernel_ = nullptr;
  Schedule* schedule_ = nullptr;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::vector<Turn> turns_;  // a heap of the ready threads
  Thread* current_ = nullptr;
  uint3 block_ = {};
  uint32_t at_barrier_ = 0;
  unsigned barriers_ = 0;
  int predicates_ = 0;
  std::string error_;
  char launched_ = 0, done_ = 0;  // tokens: see sanitizers.h
};

}  // namespace cuda_emulation
