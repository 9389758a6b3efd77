#include "trainer/train_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/timer.h"
#include "trainer/metrics.h"

namespace switchyard {

TrainStep::TrainStep(const TrainingParts& parts, const Options& options)
    : parts_(parts),
      options_(options),
      weights_(parts.model.weights()),
      replicas_(parts.groups, weights_, options.shard_updates),
      moe_layers_(parts.model.moe_layers()),
      workspace_(parts.kernels, parts.groups, options.seed, options.tracer) {
  if (options.ordered) {
    const int64_t longest =
        std::max<int64_t>(parts.source.inputs_width(), parts.source.targets_width());
    workspace_.order_sums(options.layout.groups(), options.layout.group_sequences * longest);
  }
  for (const MoeLayer* layer : moe_layers_) {
    needs_global_loads_ = needs_global_loads_ || layer->losses().needs_global_load();
  }
}

StepRecord TrainStep::run(int64_t number) {
  const Timer timer;
  StepRecord record = accumulate(number);
  update(number, record);
  record.seconds = timer.seconds();
  return record;
}

StepRecord TrainStep::accumulate(int64_t number) {
  Collectives& world = *parts_.groups.world;
  const BatchLayout& layout = options_.layout;
  Span span(options_.tracer, Phase::kData);
  std::vector<MicroBatch> batches;
  double target_tokens = 0, real_tokens = 0;
  for (int64_t micro = 0; micro < layout.micro_batches; ++micro) {
    batches.emplace_back(parts_.source, layout, micro, world.rank(), number * layout.sequences);
    target_tokens += static_cast<double>(batches.back().target_tokens());
    real_tokens += static_cast<double>(batches.back().real_tokens());
  }
  // Known before the first backward: the gradient convention divides by the global batch's targets.
  const std::vector<double> totals = sum_over_ranks(world, {target_tokens, real_tokens});
  if (totals[0] == 0) throw InputError("a global batch without any target token");

  workspace_.begin_step();
  for (Weight* weight : weights_) weight->begin_step();
  for (MoeLayer* layer : moe_layers_) layer->observation().clear();
  StepRecord record;
  std::vector<Decisions> decisions;
  if (needs_global_loads_ && batches.size() > 1) {
    span.then(Phase::kForward);
    const Timer timer;
    decisions = count_loads(number, batches);
    record.counting_seconds = timer.seconds();
  }
  span.end();
  LossSums sums;
  for (size_t i = 0; i < batches.size(); ++i) {
    const Decisions* decided = decisions.empty() ? nullptr : &decisions[i];
    run_micro_batch(number, batches[i], 1.0 / totals[0], decided, sums);
  }
  workspace_.release();
  LayerContext ctx = workspace_.context(true, number);
  span.then(Phase::kReduce);
  replicas_.reduce_gradients(ctx);

  span.then(Phase::kMetrics);
  record.step = number + 1;
  const std::vector<double> job_sums = sum_over_ranks(
      world, {sums.cross_entropy, sums.output_z, static_cast<double>(workspace_.flops().count())});
  record.loss = job_sums[0] / totals[0];
  record.output_z = job_sums[1] / totals[0];
  record.flops = static_cast<int64_t>(job_sums[2]);
  record.target_tokens = static_cast<int64_t>(totals[0]);
  record.tokens = static_cast<int64_t>(totals[1]);
  record.layers = summarise_layers(world, moe_layers_);
  for (const LayerRecord& layer : record.layers) {
    record.load_balance += layer.load_balance;
    record.router_z += layer.router_z;
    record.importance += layer.importance;
    record.load_loss += layer.load_loss;
    record.rows_exchanged += layer.rows_exchanged;
  }
  record.dropped_share = dropped_share(record.layers);
  return record;
}

std::vector<TrainStep::Decisions> TrainStep::count_loads(int64_t number,
                                                         const std::vector<MicroBatch>& batches) {
  std::vector<Decisions> all;
  for (const MicroBatch& batch : batches) {
    LayerContext ctx = workspace_.context(true, number);
    const ModelBatch on_device = batch.upload_to(ctx);
    parts_.model.route(ctx, on_device);
    parts_.model.observe(ctx, on_device);
    Decisions& of_batch = all.emplace_back();
    for (const MoeDecisions* decisions : parts_.model.decisions()) of_batch.push_back(*decisions);
    workspace_.release_activations();
  }
  share_loads(number);
  return all;
}

void TrainStep::share_loads(int64_t number) {
  std::vector<double> loads;
  for (const MoeLayer* layer : moe_layers_) {
    const MoeObservation& seen = layer->observation();
    loads.push_back(seen.tokens);
    loads.insert(loads.end(), seen.chosen.begin(), seen.chosen.end());
  }
  // Whole numbers far below 2^53: exact in any order.
  loads = sum_over_ranks(*parts_.groups.world, loads);
  auto next = loads.begin();
  for (MoeLayer* layer : moe_layers_) {
    GlobalLoad load{.step = static_cast<uint32_t>(number), .tokens = static_cast<int64_t>(*next++)};
    for (size_t e = 0; e < layer->observation().chosen.size(); ++e) {
      load.chosen.push_back(static_cast<int64_t>(*next++));
    }
    layer->set_global_load(std::move(load));
  }
}

// Of losses float64 [T].
static double sum_by_leaf(LayerContext& ctx, TensorView losses, LeafOffsets leaves) {
  const auto values = read_back_as<double>(ctx, losses);
  double sum = 0;
  for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
    const double of_leaf =
        std::accumulate(values.begin() + leaves[leaf], values.begin() + leaves[leaf + 1], 0.0);
    sum += ordered_summand(ctx.ordered, of_leaf, kTokenSumBits);
  }
  return sum;
}

void TrainStep::run_micro_batch(int64_t number, const MicroBatch& batch, double gradient_scale,
                                const Decisions* decided, LossSums& sums) {
  LayerContext ctx = workspace_.context(true, number);
  Span span(ctx.tracer, Phase::kData);
  const ModelBatch on_device = batch.upload_to(ctx);
  if (decided != nullptr) {
    ctx.replay = true;
    const std::vector<MoeDecisions*> decisions = parts_.model.decisions();
    for (size_t i = 0; i < decisions.size(); ++i) *decisions[i] = (*decided)[i];
  }
  span.then(Phase::kForward);
  const TensorView losses = parts_.model.forward(ctx, on_device, gradient_scale);
  span.then(Phase::kMetrics);
  if (decided == nullptr) {
    parts_.model.observe(ctx, on_device);
    if (needs_global_loads_) share_loads(number);
  }
  span.then(Phase::kBackward);
  parts_.model.backward(ctx, on_device);
  span.then(Phase::kMetrics);
  const LeafOffsets leaves = on_device.decoder.group_offsets;
  sums.cross_entropy += sum_by_leaf(ctx, losses, leaves);
  if (const TensorView z = parts_.model.output_z(); !z.absent()) {
    sums.output_z += sum_by_leaf(ctx, z, leaves);
  }
  if (decided == nullptr) {
    workspace_.release();
  } else {
    workspace_.release_activations();  // other micro-batches' decisions stand beside its own
  }
}

void TrainStep::update(int64_t number, StepRecord& record) {
  LayerContext ctx = workspace_.context(true, number);
  Span span(ctx.tracer, Phase::kOptimizer);
  record.gradient_norm = replicas_.gradient_norm(ctx);
  record.learning_rate = parts_.schedule.learning_rate(number);
  if (!std::isfinite(record.gradient_norm) || !std::isfinite(record.loss)) {
    if (!options_.skip_nonfinite) {
      throw NumericalError(
          "loss " + std::to_string(record.loss) + " and gradient norm " +
              std::to_string(record.gradient_norm) + " are not both finite",
          "step " + std::to_string(record.step),
          std::string("lower the learning rate, or set train.on_nonfinite: skip") +
              (options_.ordered ? " or train.reduction: fast, of wider range" : ""));
    }
    record.skipped = true;
    return;
  }
  const double factor =
      options_.clip_norm ? clip_factor(record.gradient_norm, *options_.clip_norm) : 1.0;
  parts_.optimizer.step(ctx, {number, record.learning_rate, factor});
  span.then(Phase::kReduce);
  replicas_.share_updates(ctx);
  span.then(Phase::kRouting);
  for (size_t i = 0; i < moe_layers_.size(); ++i) {
    moe_layers_[i]->balance(ctx, record.layers[i].load);
  }
}

}  // namespace switchyard
