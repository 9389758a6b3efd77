// What happens to gradients between the last backward and the update. The convention (see
// docs/architecture.md): every rank's loss is already divided by the target tokens of the global
// batch, so a gradient is the plain sum over the ranks that hold a copy of the weight; nothing is
// averaged.
#pragma once

#include <span>

#include "collectives/groups.h"
#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

// Sums dense gradients over all ranks and expert gradients over the holders of the same experts.
// Gradients that this rank wrote nothing to count as zero. Every rank calls it.
void reduce_gradients(ExecContext& ctx, const Groups& groups, std::span<Weight* const> weights);

// The norm of the whole model's gradient, every parameter counted once: expert shards are summed
// over the expert group. After reduce_gradients; the same bits on every rank. Every rank calls it.
double gradient_norm(ExecContext& ctx, const Groups& groups, std::span<Weight* const> weights);

// The factor that brings a norm down to `clip_norm`: min(1, clip_norm / norm).
double clip_factor(double norm, double clip_norm);

}  // namespace switchyard
