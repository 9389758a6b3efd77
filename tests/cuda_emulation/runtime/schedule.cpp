#include "schedule.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace cuda_emulation {

Schedule::Schedule() {
  if (const char* seed = std::getenv("CUDA_EMULATION_SEED")) {
    state_ = std::strtoull(seed, nullptr, 10);
  }
  const char* name = std::getenv("CUDA_EMULATION_SCHEDULE");
  const std::string_view order = name == nullptr ? "ascending" : name;
  if (order == "descending") {
    order_ = Order::kDescending;
  } else if (order == "random") {
    order_ = Order::kRandom;
  } else if (order == "priority") {
    order_ = Order::kPriority;
  } else if (order != "ascending") {
    std::fprintf(
        stderr, "CUDA_EMULATION_SCHEDULE is '%s'; known: ascending, descending, random, priority\n",
        name);
    std::exit(2);
  }
}

uint64_t Schedule::turn(uint32_t number, uint64_t& priority) {
  ++turns_;
  switch (order_) {
    case Order::kAscending:
    case Order::kDescending:
      return turns_;
    case Order::kRandom:
      return next();
    case Order::kPriority:
      // Now and then behind all others: whoever was held back runs ahead.
      if (next() % 64 == 0) priority = (uint64_t{1} << 63) + turns_;
      return priority;
  }
  return number;
}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t Schedule::next() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

}  // namespace cuda_emulation
