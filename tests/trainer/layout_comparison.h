// A small run in many layouts, each compared step by step with the same run on one rank.
#pragma once

#include <string>
#include <vector>

#include "report/records.h"
#include "verify/comparison.h"
#include "verify/rank_pool.h"

namespace switchyard::test {

struct LayoutCase {
  std::string name;
  int ranks = 1, expert_group = 1;
  std::vector<std::string> overrides;  // of the small config
  // Sets all router weights to zero before each step: every logit ties, every token goes to expert
  // 0. Ranks without expert 0 send all their tokens away, and all other experts stay without one.
  bool all_to_expert_0 = false;
  int expert_tensor = 1;
  bool decoder_only = false;  // of the small decoder-only config
};
void PrintTo(const LayoutCase& layout, std::ostream* out);

// The layouts of ranks as threads; of these, with other optimizers and losses; and those that
// mpirun starts with `ranks`.
std::vector<LayoutCase> threaded_layouts();
std::vector<LayoutCase> optimizer_layouts();
std::vector<LayoutCase> mpirun_layouts(int ranks);

// Of comparisons: under the sanitizers, which make them ten times slower, the first must do.
#ifdef __SANITIZE_ADDRESS__
constexpr int kSteps = 6;
#else
constexpr int kSteps = 30;
#endif

// The steps of the case against one rank. Every process of the pool calls it.
Comparison compare_with_one_rank(const LayoutCase& layout, RankPool& pool);

// What the case reports of thirty steps on one rank.
std::vector<StepRecord> train_on_one_rank(const LayoutCase& layout);

}  // namespace switchyard::test
