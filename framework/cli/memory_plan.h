// What a run plans to take of this rank's memory, said at its start, and what it took, said at its
// end.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "registry/run_data.h"
#include "registry/run_parts.h"
#include "trainer/evaluator.h"
#include "trainer/run_checkpoints.h"

namespace switchyard {

class MemoryPlan {
 public:
  // Measures what the process has before its model is made; freed arenas leave it from here on.
  MemoryPlan();

  // Rehearses a step and an evaluation and adds up what there is; see rehearsal.h. Every rank
  // calls it, before the first step.
  void make(const Config& config, const RunParts& parts, const RunData& data, TrainStep& step,
            Evaluator& evaluator);

  // Lines for people, rank 0's on the console.
  void announce() const;
  void compare() const;

  int64_t total_bytes() const;  // the base included

 private:
  using Part = std::pair<std::string, int64_t>;  // what, bytes
  int64_t base_;
  std::vector<Part> parts_;
};

}  // namespace switchyard
