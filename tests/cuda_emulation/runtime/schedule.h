// In which order threads, blocks and streams take their turns where the program leaves it open.
// CUDA_EMULATION_SCHEDULE: ascending (default), descending, random, priority; CUDA_EMULATION_SEED:
// a number for the last two. No order finds every missing barrier: turns in rotation never let one
// thread run far ahead, random priorities do.
#pragma once

#include <cstdint>

namespace cuda_emulation {

enum class Order : uint8_t { kAscending, kDescending, kRandom, kPriority };

class Schedule {
 public:
  // Reads the environment.
  Schedule();
  Schedule(Order order, uint64_t seed) : order_(order), state_(seed) {}

  Order order() const { return order_; }
  // Uniform below `bound`.
  uint64_t random_below(uint64_t bound) { return next() % bound; }
  // The turn of thread `number` when it becomes ready: the smallest is next. Thread by thread in
  // rotation, at random, or by a priority that the thread keeps for some time.
  uint64_t turn(uint32_t number, uint64_t& priority);
  uint64_t first_priority() { return order_ == Order::kPriority ? next() >> 1 : 0; }

 private:
  uint64_t next();

  Order order_ = Order::kAscending;
  uint64_t state_ = 0, turns_ = 0;
};

}  // namespace cuda_emulation
