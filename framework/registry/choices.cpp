#include "registry/choices.h"

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

const std::vector<RouterRow>& routers() {
  static const std::vector<RouterRow> rows = {
      {{"switch", "argmax of a softmax, weighted by that probability (Fedus 2021)",
        [] { return std::make_unique<SwitchRouterOptions>(); },
        [](const Choice& choice, const RouterPlace& place) {
          const TopKRouterOptions options(choice.as<SwitchRouterOptions>());
          return std::make_unique<TopKRouter>(options, place);
        },
        check_router}},
      {{"top_k", "the K best of softmax or sigmoid scores (Shazeer 2017; Mixtral, DeepSeek)",
        [] { return std::make_unique<TopKRouterOptions>(); },
        [](const Choice& choice, const RouterPlace& place) {
          return std::make_unique<TopKRouter>(choice.as<TopKRouterOptions>(), place);
        },
        check_top_k}},
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
