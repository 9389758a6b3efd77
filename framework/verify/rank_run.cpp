#include "verify/rank_run.h"

namespace switchyard {

Config RankRun::changed(Config config, RunHooks& hooks, const Collectives& world) {
  hooks.change_config(config, world.rank(), world.size());
  return config;
}

RunParts& RankRun::connected(RunParts& parts, RunHooks& hooks) {
  hooks.connect(parts.groups);
  return parts;
}

static TrainStep::Options step_options_of(const Config& config, RunHooks& hooks,
                                          const BatchLayout& layout, int rank) {
  TrainStep::Options options = step_options(config, layout);
  options.seed = hooks.step_seed(options.seed, rank);
  return options;
}

RankRun::RankRun(const VerifyCase& tested, const TokenSource& source, int64_t vocabulary,
                 Collectives& world, int threads, std::unique_ptr<RunHooks> hooks)
    : hooks_(std::move(hooks)),
      config_(changed(tested.config, *hooks_, world)),
      replaced_source_(hooks_->replace_source(source, world.rank(), world.size())),
      parts_(config_, vocabulary, world, threads),
      tap_(connected(parts_, *hooks_), *hooks_),
      step_({*parts_.kernels, parts_.groups, tap_, *parts_.optimizer, *parts_.schedule,
             replaced_source_ ? *replaced_source_ : source},
            step_options_of(tested.config, *hooks_, parts_.layout, world.rank())),
      workspace_(*parts_.kernels, parts_.groups, 0) {
  const std::vector<const Weight*> weights(parts_.weights.begin(), parts_.weights.end());
  for (const GlobalTensor& tensor : tensors_of_job(weights, parts_.optimizer->states(), world)) {
    (tensor.part == TensorPart::kModel ? weights_ : states_).push_back(tensor);
  }
}

Snapshot RankRun::state() {
  LayerContext ctx = workspace_.context(false, 0);
  Snapshot items = copy_tensors(ctx, Check::kWeight, weights_);
  append(items, copy_tensors(ctx, Check::kState, states_));
  return items;
}

void RankRun::start_from(const Snapshot& state) {
  LayerContext ctx = workspace_.context(false, 0);
  restore_tensors(ctx, state, Check::kWeight, weights_);
  restore_tensors(ctx, state, Check::kState, states_);
  for (Weight* weight : parts_.weights) weight->master_changed();
}

RankRun::Step RankRun::step(int64_t number, const Snapshot* reference) {
  LayerContext ctx = workspace_.context(true, number);
  HookedRank rank{parts_, ctx, number};
  hooks_->before_step(rank);
  tap_.begin_step(number, reference);
  StepRecord& record = step_.accumulate(number);
  hooks_->before_update(rank);

  Step step{.items = tap_.take_choices(), .learning_rate = 0};
  append(step.items, record_items(record));
  append(step.items, copy_tensors(ctx, Check::kGradient, global_gradients(parts_.weights)));
  step_.update(number, record);
  step.learning_rate = record.learning_rate;
  step.items.push_back(gradient_norm_item(record));
  append(step.items, copy_tensors(ctx, Check::kWeight, weights_));
  append(step.items, copy_tensors(ctx, Check::kState, states_));
  return step;
}

}  // namespace switchyard
