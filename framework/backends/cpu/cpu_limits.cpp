#include "backends/cpu/cpu_limits.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <vector>

#include "backends/cpu/team.h"
#include "base/timer.h"

namespace switchyard::cpu {
namespace {

constexpr int kRepetitions = 7;
constexpr int64_t kManyUnits = 64;  // so that a thread that is held up leaves its work to others

// The shortest time of `work`, in seconds.
template <typename Work>
double shortest(const Work& work) {
  double seconds = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    const Timer timer;
    work();
    seconds = std::min(seconds, timer.seconds());
  }
  return seconds;
}

// What a loop's result is written to, lest it be left out.
void keep(float result) {
  static std::atomic<float> kept;
  kept.store(result, std::memory_order_relaxed);
}

double flops_per_second(Team& team, const VectorLoops& loops) {
  constexpr int64_t kRounds = 20'000;  // some hundred microseconds a unit
  const int64_t units = kManyUnits * team.size();
  const double seconds = shortest([&] {
    team.units(units, kRounds, [&](int64_t, int) { keep(loops.multiply_adds(kRounds, 0.5f)); });
  });
  const int64_t of_unit = 2 * loops.tile_rows * loops.tile_columns * kRounds;
  return static_cast<double>(units * of_unit) / seconds;
}

double bytes_per_second(Team& team, const VectorLoops& loops) {
  // Both together are larger than any cache, twice over on most machines.
  constexpr int64_t kBytes = int64_t{320} << 20, kUnit = kBytes / kManyUnits;
  const Tensor from(DType::kUint8, {kBytes}), to(DType::kUint8, {kBytes});
  const auto copy = [&](int64_t unit, int) {
    std::memcpy(to.data<uint8_t>() + unit * kUnit, from.data<uint8_t>() + unit * kUnit, kUnit);
  };
  const auto read = [&](int64_t unit, int) {
    for (const Tensor* bytes : {&from, &to}) {
      const auto* floats = reinterpret_cast<const float*>(bytes->data<uint8_t>() + unit * kUnit);
      keep(loops.sum_of_squares(kUnit / static_cast<int64_t>(sizeof(float)), floats));
    }
  };
  std::memset(from.data<uint8_t>(), 0, kBytes);
  const double copying = shortest([&] { team.units(kManyUnits, kUnit, copy); });
  const double reading = shortest([&] { team.units(kManyUnits, kUnit, read); });
  return 2 * static_cast<double>(kBytes) / std::min(copying, reading);
}

}  // namespace

DeviceLimits measure_limits(int threads, Isa isa) {
  Team team(threads);
  const VectorLoops& loops = loops_of(isa);
  return {.flops = flops_per_second(team, loops),
          .bytes_per_second = bytes_per_second(team, loops)};
}

}  // namespace switchyard::cpu
