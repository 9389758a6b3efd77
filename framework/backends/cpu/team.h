// The CPU backend's threads with a buffer each, and ways to share out rows and work units. Who
// computes a unit depends on timing, what is computed never does.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace switchyard::cpu {

class Team {
 public:
  explicit Team(int threads);

  int size() const { return pool_.size(); }

  // body(begin, end) on parts of [0, count); `cost` is the work of one index, in elements touched.
  template <typename Body>
  void ranges(int64_t count, int64_t cost, const Body& body) {
    even_out_buffers();
    // Many cheap indices are cut at whole cache lines and vectors.
    const int64_t enough = kSmallestPart / std::max<int64_t>(cost, 1);
    const int64_t grain = enough < 64 ? enough + 1 : (enough + 63) / 64 * 64;
    // A reference is small enough for std::function to hold without allocating.
    pool_.parallel_for(count, grain, std::ref(body));
  }

  // body(unit, thread) for every unit in [0, count), each taken by the next free thread.
  template <typename Body>
  void units(int64_t count, int64_t cost, const Body& body) {
    even_out_buffers();
    if (size() == 1 || count * cost <= kSmallestPart) {
      for (int64_t unit = 0; unit < count; ++unit) body(unit, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    const auto work = [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) {
        for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
          body(unit, static_cast<int>(thread));
        }
      }
    };
    pool_.parallel_for(size(), 1, std::ref(work));
  }

  // A buffer of the thread's own, at least `floats` long, uninitialised, valid until its next call.
  float* buffer(int thread, int64_t floats);

 private:
  // Waking the others costs some microseconds: below this many elements it isn't worth it.
  static constexpr int64_t kSmallestPart = 16384;

  // Every thread gets as much as one has needed: which of them takes the largest unit is chance.
  void even_out_buffers() {
    if (buffer_floats_.load(std::memory_order_relaxed) > even_floats_) grow_buffers();
  }
  void grow_buffers();

  ThreadPool pool_;
  std::vector<Tensor> buffers_;
  std::atomic<int64_t> buffer_floats_{0};  // of the largest
  int64_t even_floats_ = 0;                // that all of them have
};

}  // namespace switchyard::cpu
