// Rules between keys: combinations that contradict each other, cannot work, or would silently have
// no effect. Each throws ConfigError with the place, the reason and what to do. (Keys that another
// key of the same section makes inert are stated in describe(), by inert_if.)
#pragma once

#include <cstdint>

#include "config/config.h"

namespace switchyard {

// Everything that can be told without knowing the job; load_config has called it. The rules of the
// chosen routers, optimizer and schedule (ChoiceRow::check) come last.
void check_rules(const Config& config, const ChoiceTables& tables);

// What depends on the number of ranks: parallel.expert must divide it, parallel.expert_tensor the
// expert group.
void check_layout(const Config& config, int64_t ranks);

// For moe.dispatch: hierarchical: expert groups are whole nodes, or stand inside one.
//   ranks_per_node  parallel.ranks_per_node, or what was found for auto
void check_nodes(const Config& config, int64_t expert_group, int64_t ranks_per_node);

}  // namespace switchyard
