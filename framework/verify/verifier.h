// Trains the same steps in two layouts and compares all that they leave behind. In ordered mode
// both run free and every bit must be equal; in fast mode each step starts from the reference's
// weights and optimizer state, so that rounding doesn't grow from step to step.
#pragma once

#include "verify/comparison.h"
#include "verify/rank_pool.h"
#include "verify/rank_run.h"

namespace switchyard {

class Verifier {
 public:
  // Makes the hooks of one rank; called once on each.
  using MakeHooks = std::function<std::unique_ptr<RunHooks>()>;

  // The first two outlive it.
  //   steps  of every case
  Verifier(const TokenSource& source, RankPool& pool, int64_t vocabulary, int64_t steps)
      : source_(source), pool_(pool), vocabulary_(vocabulary), steps_(steps) {}

  // Every process calls all of these. They throw what training throws, and ConfigError where a
  // config doesn't fit its ranks.
  // The case that the others are compared with; keeps a copy of all weights, gradients and states
  // for each step.
  void run_reference(const VerifyCase& reference, const MakeHooks& hooks = {});
  // Ends at the first step that differs. The result is valid on the process that has rank 0.
  Comparison compare(const VerifyCase& tested, const MakeHooks& hooks = {});

 private:
  Snapshot whole(Collectives& world, Snapshot items, int64_t step) const;
  Comparison compare_rank(RankRun& run, const Tolerance& tolerance, Collectives& world) const;

  const TokenSource& source_;
  RankPool& pool_;
  int64_t vocabulary_, steps_;
  std::vector<Snapshot> reference_;  // before the first step, then after each
};

}  // namespace switchyard
