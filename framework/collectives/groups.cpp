#include "collectives/groups.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {

Groups make_groups(Collectives& world, int expert_ranks, int expert_tensor) {
  SWITCHYARD_CHECK(expert_ranks >= 1 && world.size() % expert_ranks == 0, "expert groups of ",
                   expert_ranks, " out of ", world.size(), " ranks");
  SWITCHYARD_CHECK(expert_tensor >= 1 && expert_ranks % expert_tensor == 0, "slices on ",
                   expert_tensor, " out of ", expert_ranks, " ranks of an expert group");
  const int rank = world.rank();
  Groups groups;
  groups.world = &world;
  groups.expert = world.split(rank / expert_ranks * expert_tensor + rank % expert_tensor);
  groups.tensor = world.split(rank / expert_tensor);
  groups.replica = world.split(rank % expert_ranks);
  return groups;
}

std::string Groups::layout() const {
  std::string text = std::to_string(world->size()) + "x" + std::to_string(expert_ranks());
  return tensor->size() == 1 ? text : text + "x" + std::to_string(tensor->size());
}

void split_by_node(Groups& groups, int ranks_per_node) {
  Collectives& expert = *groups.expert;
  SWITCHYARD_CHECK(ranks_per_node >= 1 && expert.size() % ranks_per_node == 0, "nodes of ",
                   ranks_per_node, " out of ", expert.size(), " ranks of an expert group");
  groups.node = expert.split(expert.rank() / ranks_per_node);
  groups.across = expert.split(expert.rank() % ranks_per_node);
}

Share share_of(int64_t count, int64_t parts, int64_t part) {
  SWITCHYARD_CHECK(count >= 0 && part >= 0 && part < parts, "part ", part, " of ", parts, " of ",
                   count);
  const int64_t smaller = count / parts, larger_parts = count % parts;
  Share share;
  share.begin = part * smaller + std::min(part, larger_parts);
  share.end = share.begin + smaller + (part < larger_parts ? 1 : 0);
  return share;
}

ExpertRange experts_of_rank(int64_t experts, int group_size, int group_rank) {
  const Share share = share_of(experts, group_size, group_rank);
  return {share.begin, share.size(), experts};
}

}  // namespace switchyard
