// The tables of what a config chooses by name, and how each is made. A new router, optimizer or
// schedule is one file elsewhere and one row here.
#pragma once

#include <memory>
#include <span>

#include "config/config.h"
#include "layers/initialise.h"
#include "moe/router.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace switchyard {

// For load_config: kinds "model", "router", "optimizer", "schedule".
const ChoiceTables& choice_tables();

// What a router can be combined with. docs/semantics.md shows it as a table; what a config combines
// otherwise is refused.
struct RouterTraits {
  bool takes_room = true;  // capacity.overflow and priority have a say
  bool reroutes = true;    // overflow: reroute
  bool load_balance = true, router_z = true, importance = true, load = false;
  // What it sees of later tokens; empty: nothing. Then it isn't for causal stacks.
  std::string looks_ahead = {};
  bool looks_ahead_in_training = false;  // there only: the program warns, and doesn't refuse
};

std::unique_ptr<Router> make_router(const Choice& choice, const RouterPlace& place);
const RouterTraits& router_traits(const Choice& choice);
// optimizer.shard
bool shards_optimizer(const Choice& optimizer);
// `weights`, those that this rank updates, and `groups` must outlive it.
std::unique_ptr<Optimizer> make_optimizer(const Choice& choice, std::span<Weight* const> weights,
                                          const Groups& groups);
std::unique_ptr<Schedule> make_schedule(const Choice& choice, int64_t total_steps);

}  // namespace switchyard
