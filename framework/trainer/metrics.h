// From what each rank saw to what the job reports.
#pragma once

#include <span>
#include <vector>

#include "collectives/collectives.h"
#include "moe/moe_layer.h"
#include "report/records.h"

namespace switchyard {

// The element-wise sum over the ranks. Every rank calls it with as many values.
std::vector<double> sum_over_ranks(Collectives& world, const std::vector<double>& values);
// The same in place.
void add_up_over_ranks(Collectives& world, std::span<double> values);
// The element-wise maximum, likewise.
std::vector<double> max_over_ranks(Collectives& world, const std::vector<double>& values);

// Turns what mixture layers saw into records, with memory that it keeps from step to step.
class LayerSummary {
 public:
  // Overwrites `records` with the layers' observations summed over the ranks, as ratios. Every rank
  // calls it; the same result on each.
  void fill(Collectives& world, const std::vector<MoeLayer*>& layers,
            std::vector<LayerRecord>& records);

 private:
  std::vector<double> packed_, most_rows_;
  std::vector<size_t> ends_;  // of each layer in packed_
  MoeObservation seen_;       // of one layer by all ranks
};

// Dropped choices over all choices, all layers together.
double dropped_share(const std::vector<LayerRecord>& layers);

}  // namespace switchyard
