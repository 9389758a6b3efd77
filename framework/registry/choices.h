// The tables of what a config chooses by name, and how each is made. A new router, optimizer or
// schedule is one file elsewhere and one row here.
#pragma once

#include <memory>
#include <span>

#include "config/config.h"
#include "moe/router.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace switchyard {

// For load_config: kinds "model", "router", "optimizer", "schedule".
const ChoiceTables& choice_tables();

// Where a router stands and what it is made of.
struct RouterPlace {
  std::string name;  // of its weight
  uint16_t layer;    // see layer_id
  int64_t experts, d_model;
  double init_scale;
  DType dtype;
  Memory& memory;
  uint64_t seed;
};

std::unique_ptr<Router> make_router(const Choice& choice, const RouterPlace& place);
// optimizer.shard
bool shards_optimizer(const Choice& optimizer);
// `weights`, those that this rank updates, and `groups` must outlive it.
std::unique_ptr<Optimizer> make_optimizer(const Choice& choice, std::span<Weight* const> weights,
                                          const Groups& groups);
std::unique_ptr<Schedule> make_schedule(const Choice& choice, int64_t total_steps);

}  // namespace switchyard
