// The groups that a layout NxP makes of N ranks: expert groups of P consecutive ranks, whose
// members share out the experts, and replica groups of the ranks at the same place in their expert
// groups.
#pragma once

#include <memory>

#include "collectives/collectives.h"
#include "tensor/weight.h"

namespace switchyard {

struct Groups {
  Collectives* world = nullptr;          // all ranks; not owned
  std::unique_ptr<Collectives> expert;   // P ranks; between them they hold every expert once
  std::unique_ptr<Collectives> replica;  // N/P ranks that hold the same experts
  // Of `expert`: the ranks on this rank's node, and those at its place in all nodes; see
  // split_by_node. Null where nobody asked for them.
  std::unique_ptr<Collectives> node, across;
};

// Every rank calls it. `world` must outlive the result.
//   expert_group_size  P; divides world.size()
Groups make_groups(Collectives& world, int expert_group_size);

// Makes groups.node and groups.across. Every rank calls it.
//   ranks_per_node  consecutive ranks of an expert group that share a node; divides its size
void split_by_node(Groups& groups, int ranks_per_node);

// Contiguous shares that differ by at most one, the larger first.
//   returns  [begin, end) of `part` among `parts`; may be empty
struct Share {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
Share share_of(int64_t count, int64_t parts, int64_t part);

// The experts of a layer that the rank of the expert group holds.
ExpertRange experts_of_rank(int64_t experts, int group_size, int group_rank);

}  // namespace switchyard
