// The groups that a layout NxPxT makes of N ranks. An expert group is P consecutive ranks, which
// share out the experts. Its P / T places are T consecutive ranks each: these hold the same
// experts, every one a T-th of their inner width (T = 1: whole experts). Replicas are the ranks at
// the same place and slice of their expert groups.
#pragma once

#include <memory>
#include <string>

#include "collectives/collectives.h"
#include "tensor/weight.h"

namespace switchyard {

struct Groups {
  Collectives* world = nullptr;  // all ranks; not owned
  // The P / T ranks of an expert group that hold the same slice, by place: between them every
  // expert once. Tokens are exchanged over it.
  std::unique_ptr<Collectives> expert;
  std::unique_ptr<Collectives> tensor;   // T ranks of one place, by slice
  std::unique_ptr<Collectives> replica;  // N / P ranks that hold the same experts and slice
  // Of `expert`: the ranks on this rank's node, and those at its place in all nodes; see
  // split_by_node. Null where nobody asked for them.
  std::unique_ptr<Collectives> node, across;

  // P. Sums over `expert` and then over `tensor` are sums over the whole expert group.
  int expert_ranks() const { return expert->size() * tensor->size(); }
  std::string layout() const;  // "4x2", with T > 1 "4x4x2"
};

// Every rank calls it. `world` must outlive the result.
//   expert_ranks   P; divides world.size()
//   expert_tensor  T; divides P
Groups make_groups(Collectives& world, int expert_ranks, int expert_tensor = 1);

// Makes groups.node and groups.across. Every rank calls it.
//   ranks_per_node  consecutive ranks of `expert` that share a node; divides its size
void split_by_node(Groups& groups, int ranks_per_node);

// Contiguous shares that differ by at most one, the larger first.
//   returns  [begin, end) of `part` among `parts`; may be empty
struct Share {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
Share share_of(int64_t count, int64_t parts, int64_t part);

// The experts of a layer that a rank of Groups::expert holds; may be none.
ExpertRange experts_of_rank(int64_t experts, int group_size, int group_rank);

}  // namespace switchyard
