// From what each rank saw to what the job reports.
#pragma once

#include <vector>

#include "collectives/collectives.h"
#include "moe/moe_layer.h"
#include "report/records.h"

namespace switchyard {

// The element-wise sum or maximum over the ranks. Every rank calls it with as many values.
std::vector<double> sum_over_ranks(Collectives& world, const std::vector<double>& values);
std::vector<double> max_over_ranks(Collectives& world, const std::vector<double>& values);

// The layers' observations summed over the ranks, as ratios. Every rank calls it; the same result
// on each.
std::vector<LayerRecord> summarise_layers(Collectives& world, const std::vector<MoeLayer*>& layers);

// Dropped choices over all choices, all layers together.
double dropped_share(const std::vector<LayerRecord>& layers);

}  // namespace switchyard
