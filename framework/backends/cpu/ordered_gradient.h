// How the CPU backend adds float32 partials to a weight's 64-bit sums (ops/ordered_sums.h). For the
// .cpp files of this folder.
#pragma once

#include <atomic>

#include "backends/cpu/team.h"
#include "backends/cpu/vector_loops.h"
#include "ops/exec_context.h"

namespace switchyard::cpu {

// One operation's additions; threads add to different elements.
class OrderedGradient {
 public:
  // Zeroes the sums if this is the first gradient of the step.
  OrderedGradient(const ExecContext& ctx, Weight& w, const VectorLoops& loops, Team& team)
      : loops_(loops), limit_(ctx.ordered->limit(w)), refused_(ctx.ordered->refused) {
    const TensorView sums = w.ordered_sums();
    sums_ = sums.data<int64_t>();
    if (w.next_gradient_write() == Write::kAccumulate) return;
    team.ranges(sums.elements(), 2,
                [&](int64_t begin, int64_t end) { std::fill(sums_ + begin, sums_ + end, 0); });
  }
  ~OrderedGradient() { refused_.data<int64_t>()[0] += count_; }
  OrderedGradient(const OrderedGradient&) = delete;
  OrderedGradient& operator=(const OrderedGradient&) = delete;

  // Adds n partials to the sums from element `first` on.
  void add(int64_t first, int64_t n, const float* partials) {
    const int64_t refused = loops_.add_to_ordered(n, partials, limit_, sums_ + first);
    if (refused != 0) count_.fetch_add(refused, std::memory_order_relaxed);
  }

 private:
  const VectorLoops& loops_;
  float limit_;
  TensorView refused_;
  int64_t* sums_;
  std::atomic<int64_t> count_{0};
};

// Fails where the operation and the weight disagree on how gradients are summed.
inline bool sums_ordered(const ExecContext& ctx, const Weight& w) {
  SWITCHYARD_CHECK((ctx.ordered != nullptr) == w.keeps_ordered_sums(), w.name(),
                   ctx.ordered ? " keeps no ordered sums" : " keeps ordered sums");
  return ctx.ordered != nullptr;
}

}  // namespace switchyard::cpu
