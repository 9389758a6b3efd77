// Thirty steps on one rank against the same steps on any layout. Each step of the layout starts
// from the reference's weights and optimizer state, so that rounding doesn't grow from step to
// step.
#pragma once

#include <string>
#include <vector>

#include "collectives/collectives.h"
#include "report/records.h"

namespace switchyard::test {

struct LayoutCase {
  std::string name;
  int ranks = 1, expert_group = 1;
  std::vector<std::string> overrides;  // of the small config
  // Sets all router weights to zero before each step: every logit ties, every token goes to expert
  // 0. Ranks without expert 0 send all their tokens away, and all other experts stay without one.
  bool all_to_expert_0 = false;
  int expert_tensor = 1;
};
void PrintTo(const LayoutCase& layout, std::ostream* out);

// The layouts of ranks as threads; of these, with other optimizers and losses; and those that
// mpirun starts with `ranks`.
std::vector<LayoutCase> threaded_layouts();
std::vector<LayoutCase> optimizer_layouts();
std::vector<LayoutCase> mpirun_layouts(int ranks);

// A whole training state: weights, gradients and optimizer state by global name, experts stacked.
struct StepTrace {
  struct Named {
    std::string name;
    std::vector<float> values;
    int64_t expert_elements = 0;  // of one expert's slice; 0: not an expert weight
  };
  std::vector<Named> weights_before, state_before, gradients, weights_after, state_after;
  StepRecord record;
};

constexpr int kSteps = 30;

// The case's run on one rank.
std::vector<StepTrace> run_reference(const LayoutCase& layout);

// Runs the case's layout on `world` from the reference's states. Every rank calls it; failures are
// GoogleTest's, named by step, tensor and rank. Tolerances: docs/architecture.md, "Layout
// invariance".
void compare_with_reference(const LayoutCase& layout, const std::vector<StepTrace>& reference,
                            Collectives& world);

}  // namespace switchyard::test
