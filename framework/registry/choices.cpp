#include "registry/choices.h"

#include "moe/expert_choice_router.h"
#include "moe/gshard_router.h"
#include "moe/hash_router.h"
#include "moe/hierarchical_router.h"
#include "moe/noisy_top_k_router.h"
#include "moe/sinkhorn_router.h"
#include "moe/soft_router.h"
#include "moe/top_k_router.h"
#include "optim/adafactor.h"
#include "optim/adamw.h"
#include "optim/sgd.h"
#include "registry/option_rules.h"

namespace switchyard {

namespace {

// A row of each kind: its name and meaning, its options, what makes the object from them, and the
// rules that need the rest of the config.
template <typename Made, typename... Args>
struct Row {
  std::string name, meaning;
  std::function<std::unique_ptr<Options>()> options;
  std::function<std::unique_ptr<Made>(const Choice&, const Args&...)> make;
  std::function<void(const Options&, const Config&, const std::string& path)> check = {};
};

struct RouterRow : Row<Router, RouterPlace> {
  RouterTraits traits = {};
};
using OptimizerRow = Row<Optimizer, std::span<Weight* const>, Groups>;
using ScheduleRow = Row<Schedule, int64_t>;

template <typename RowOptions, typename Made>
RouterRow router_row(const std::string& name, const std::string& meaning, RouterTraits traits,
                     const decltype(RouterRow::check)& check = check_router) {
  return {{name, meaning, [] { return std::make_unique<RowOptions>(); },
           [](const Choice& choice, const RouterPlace& place) {
             return std::make_unique<Made>(choice.as<RowOptions>(), place);
           },
           check},
          std::move(traits)};
}

const std::vector<RouterRow>& routers() {
  static const std::vector<RouterRow> rows = {
      {{"switch", "argmax of a softmax, weighted by that probability (Fedus 2021)",
        [] { return std::make_unique<SwitchRouterOptions>(); },
        [](const Choice& choice, const RouterPlace& place) {
          const TopKRouterOptions options(choice.as<SwitchRouterOptions>());
          return std::make_unique<TopKRouter>(options, place);
        },
        check_router}},
      router_row<TopKRouterOptions, TopKRouter>(
          "top_k", "the K best of softmax or sigmoid scores (Shazeer 2017; Mixtral, DeepSeek)", {},
          check_top_k),
      router_row<NoisyTopKRouterOptions, NoisyTopKRouter>(
          "noisy_top_k", "the K best of logits with learned noise (Shazeer 2017)", {.load = true}),
      router_row<GShardRouterOptions, GShardRouter>(
          "gshard", "the two best, the second at random by its weight (Lepikhin 2020)", {}),
      router_row<ExpertChoiceRouterOptions, ExpertChoiceRouter>(
          "expert_choice", "experts take the tokens that they score highest (Zhou 2022)",
          {.takes_room = false,
           .reroutes = false,
           .load_balance = false,
           .importance = false,
           .looks_ahead = "a later token can take an earlier one's place at an expert"},
          check_expert_choice),
      router_row<SoftRouterOptions, SoftRouter>(
          "soft", "every expert computes weighted means of a sequence's tokens (Puigcerver 2023)",
          {.takes_room = false,
           .reroutes = false,
           .load_balance = false,
           .router_z = false,
           .importance = false,
           .looks_ahead = "every slot has a part of every token"},
          check_soft),
      router_row<HashRouterOptions, HashRouter>(
          "hash", "a fixed hash of the token's id, or a table balanced by frequency (Roller 2021)",
          {.reroutes = false, .load_balance = false, .router_z = false, .importance = false}),
      router_row<SinkhornRouterOptions, SinkhornRouter>(
          "sinkhorn", "the best of a balanced assignment of the group's tokens (Clark 2022)",
          {.load_balance = false, .importance = false, .looks_ahead_in_training = true}),
      router_row<HierarchicalRouterOptions, HierarchicalRouter>(
          "hierarchical", "a gate for groups of experts, one more in each group (Jordan 1994)",
          {.reroutes = false}, check_hierarchical),
  };
  return rows;
}

const std::vector<OptimizerRow>& optimizers() {
  static const std::vector<OptimizerRow> rows = {
      {"adamw", "Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
       [] { return std::make_unique<AdamWOptions>(); },
       [](const Choice& choice, std::span<Weight* const> weights, const Groups&) {
         return std::make_unique<AdamW>(choice.as<AdamWOptions>(), weights);
       },
       check_weight_groups},
      {"adafactor", "factored second moments, relative updates (Shazeer & Stern 2018)",
       [] { return std::make_unique<AdafactorOptions>(); },
       [](const Choice& choice, std::span<Weight* const> weights, const Groups& groups) {
         return std::make_unique<Adafactor>(choice.as<AdafactorOptions>(), weights, groups);
       },
       check_adafactor},
      {"sgd", "gradient descent with momentum (Sutskever 2013)",
       [] { return std::make_unique<SgdOptions>(); },
       [](const Choice& choice, std::span<Weight* const> weights, const Groups&) {
         return std::make_unique<Sgd>(choice.as<SgdOptions>(), weights);
       },
       check_weight_groups},
  };
  return rows;
}

const std::vector<ScheduleRow>& schedules() {
  static const std::vector<ScheduleRow> rows = {
      {"constant", "the same learning rate for every step",
       [] { return std::make_unique<ConstantOptions>(); },
       [](const Choice& choice, int64_t) {
         return std::make_unique<ConstantSchedule>(choice.as<ConstantOptions>());
       }},
      {"linear_warmup_cosine", "rises linearly, then falls along a cosine",
       [] { return std::make_unique<LinearWarmupCosineOptions>(); },
       [](const Choice& choice, int64_t total_steps) {
         return std::make_unique<LinearWarmupCosineSchedule>(choice.as<LinearWarmupCosineOptions>(),
                                                             total_steps);
       }},
      {"linear", "rises linearly, then falls linearly",
       [] { return std::make_unique<LinearOptions>(); },
       [](const Choice& choice, int64_t total_steps) {
         return std::make_unique<LinearSchedule>(choice.as<LinearOptions>(), total_steps);
       }},
      {"warmup_stable_decay", "rises linearly, stays, falls at the end (Hu 2024)",
       [] { return std::make_unique<WarmupStableDecayOptions>(); },
       [](const Choice& choice, int64_t total_steps) {
         return std::make_unique<WarmupStableDecaySchedule>(choice.as<WarmupStableDecayOptions>(),
                                                            total_steps);
       },
       check_warmup_stable_decay},
      {"rsqrt", "level, then one over the root of the step (T5, Switch)",
       [] { return std::make_unique<RsqrtOptions>(); },
       [](const Choice& choice, int64_t) {
         return std::make_unique<RsqrtSchedule>(choice.as<RsqrtOptions>());
       }},
  };
  return rows;
}

template <typename Rows>
std::vector<ChoiceRow> choice_rows(const Rows& rows) {
  std::vector<ChoiceRow> choices;
  for (const auto& row : rows) choices.push_back({row.name, row.meaning, row.options, row.check});
  return choices;
}

template <typename Rows, typename... Args>
auto make_from(const Rows& rows, const Choice& choice, const Args&... args) {
  for (const auto& row : rows) {
    if (row.name == choice.type) return row.make(choice, args...);
  }
  SWITCHYARD_CHECK(false, "no row named ", choice.type);
  return decltype(rows.front().make(choice, args...))();
}

}  // namespace

const ChoiceTables& choice_tables() {
  static const ChoiceTables tables({
      {"model",
       {{"switch_t5", "T5's encoder-decoder with Switch layers (Fedus 2021)", {}, {}},
        {"decoder_lm", "a decoder alone, as Mixtral (Jiang 2024), OLMoE and Qwen3", {}, {}}}},
      {"router", choice_rows(routers())},
      {"optimizer", choice_rows(optimizers())},
      {"schedule", choice_rows(schedules())},
  });
  return tables;
}

std::unique_ptr<Router> make_router(const Choice& choice, const RouterPlace& place) {
  return make_from(routers(), choice, place);
}

const RouterTraits& router_traits(const Choice& choice) {
  for (const RouterRow& row : routers()) {
    if (row.name == choice.type) return row.traits;
  }
  SWITCHYARD_CHECK(false, "no router named ", choice.type);
  return routers().front().traits;
}

bool shards_optimizer(const Choice& optimizer) { return optimizer.as<OptimizerOptions>().shard; }

std::unique_ptr<Optimizer> make_optimizer(const Choice& choice, std::span<Weight* const> weights,
                                          const Groups& groups) {
  return make_from(optimizers(), choice, weights, groups);
}

std::unique_ptr<Schedule> make_schedule(const Choice& choice, int64_t total_steps) {
  return make_from(schedules(), choice, total_steps);
}

}  // namespace switchyard
