// The copies of each weight that ranks hold, and what keeps them equal: sums of gradients, the norm
// of the whole gradient, and, where updates are sharded (ZeRO stage 1, Rajbhandari 2020), updated
// weights on their way from owners to the other holders.
// The convention (docs/architecture.md): every rank's loss is already divided by the target tokens
// of the global batch, so a gradient is the plain sum over the ranks that hold a copy of the
// weight; nothing is averaged.
#pragma once

#include <span>
#include <vector>

#include "collectives/groups.h"
#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

class WeightReplicas {
 public:
  //   weights  the same on every rank, in the same order; both must outlive this
  //   sharded  one holder of each weight is its owner and updates it for all: whole weights, so
  //            that bytes are even; else every holder updates its copy
  WeightReplicas(const Groups& groups, std::span<Weight* const> weights, bool sharded = false);

  // The weights that this rank updates.
  std::vector<Weight*> updated_here() const;

  // Sums dense gradients over all ranks and expert gradients over the holders of the same experts;
  // what a rank wrote nothing to counts as zero. Ordered sums become gradients. With owners only
  // they have the result: the others' gradients are forgotten. Every rank calls it.
  void reduce_gradients(ExecContext& ctx) const;

  // The norm of the whole model's gradient, every parameter counted once; infinite where ordered
  // sums had to leave something out. After reduce_gradients; the same bits on every rank and in
  // every layout whose gradients are the same. Every rank calls it.
  double gradient_norm(ExecContext& ctx) const;

  // Brings what owners have updated to the other holders; nothing without owners. Every rank calls
  // it.
  void share_updates(ExecContext& ctx) const;

 private:
  static constexpr int kEveryHolder = -1;
  struct Copies {
    Weight* weight;
    Collectives* holders;
    int owner = kEveryHolder;  // rank among the holders

    bool owned_here() const { return owner == kEveryHolder || owner == holders->rank(); }
    // Exactly one holder says true.
    bool counted_here() const { return holders->rank() == (owner == kEveryHolder ? 0 : owner); }
  };
  void choose_owners(const Groups& groups);
  void reduce(ExecContext& ctx, const Copies& copies) const;

  Collectives& world_;
  std::vector<Copies> copies_;
};

// The factor that brings a norm down to `clip_norm`: min(1, clip_norm / norm).
double clip_factor(double norm, double clip_norm);

}  // namespace switchyard
