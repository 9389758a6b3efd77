#include "trainer/train_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/timer.h"
#include "ops/host_values.h"
#include "trainer/rehearsal.h"

namespace switchyard {

TrainStep::TrainStep(const TrainingParts& parts, const Options& options)
    : parts_(parts),
      options_(options),
      weights_(parts.model.weights()),
      replicas_(parts.groups, weights_, options.shard_updates),
      moe_layers_(parts.model.moe_layers()),
      workspace_(parts.kernels, parts.groups, options.seed, options.tracer),
      model_decisions_(parts.model.decisions()) {
  if (options.ordered) {
    const int64_t longest =
        std::max<int64_t>(parts.source.inputs_width(), parts.source.targets_width());
    workspace_.order_sums(options.layout.groups(), options.layout.group_sequences * longest);
  }
  for (const MoeLayer* layer : moe_layers_) {
    needs_global_loads_ = needs_global_loads_ || layer->losses().needs_global_load();
  }
}

void TrainStep::rehearse() {
  switchyard::rehearse(workspace_, parts_.model, parts_.source, options_.layout, true);
  if (!needs_global_loads_ || options_.layout.micro_batches == 1) return;
  Workspace::Sizes sizes = workspace_.capacities();
  sizes.decisions *= options_.layout.micro_batches;  // of all of them, once they are counted
  workspace_.resize(sizes);
}

const StepRecord& TrainStep::run(int64_t number) {
  const Timer timer;
  StepRecord& record = accumulate(number);
  update(number, record);
  record.seconds = timer.seconds();
  return record;
}

// But for the memory of its lists.
static void forget_last_step(StepRecord& record) {
  std::vector<LayerRecord> layers = std::move(record.layers);
  record = {};
  record.layers = std::move(layers);
}

StepRecord& TrainStep::accumulate(int64_t number) {
  Collectives& world = *parts_.groups.world;
  const BatchLayout& layout = options_.layout;
  Span span(options_.tracer, Phase::kData);
  double totals[] = {0, 0};  // tokens: targets, real ones
  batches_.resize(static_cast<size_t>(layout.micro_batches));
  for (size_t micro = 0; micro < batches_.size(); ++micro) {
    batches_[micro].fill(parts_.source, layout, static_cast<int64_t>(micro), world.rank(),
                         number * layout.sequences);
    totals[0] += static_cast<double>(batches_[micro].target_tokens());
    totals[1] += static_cast<double>(batches_[micro].real_tokens());
  }
  // Known before the first backward: the gradient convention divides by the global batch's targets.
  add_up_over_ranks(world, totals);
  if (totals[0] == 0) throw InputError("a global batch without any target token");

  workspace_.begin_step();
  for (Weight* weight : weights_) weight->begin_step();
  for (MoeLayer* layer : moe_layers_) layer->observation().clear();
  StepRecord& record = record_;
  forget_last_step(record);
  const bool counts_first = needs_global_loads_ && batches_.size() > 1;
  if (counts_first) {
    span.then(Phase::kForward);
    const Timer timer;
    count_loads(number);
    record.counting_seconds = timer.seconds();
  }
  span.end();
  LossSums sums;
  for (size_t i = 0; i < batches_.size(); ++i) {
    const Decisions* decided = counts_first ? &decided_[i] : nullptr;
    run_micro_batch(number, batches_[i], 1.0 / totals[0], decided, sums);
  }
  workspace_.release();
  LayerContext ctx = workspace_.context(true, number);
  span.then(Phase::kReduce);
  replicas_.reduce_gradients(ctx);

  span.then(Phase::kMetrics);
  record.step = number + 1;
  double job_sums[] = {sums.cross_entropy, sums.output_z,
                       static_cast<double>(workspace_.flops().count())};
  add_up_over_ranks(world, job_sums);
  record.loss = job_sums[0] / totals[0];
  record.output_z = job_sums[1] / totals[0];
  record.flops = static_cast<int64_t>(job_sums[2]);
  record.target_tokens = static_cast<int64_t>(totals[0]);
  record.tokens = static_cast<int64_t>(totals[1]);
  summary_.fill(world, moe_layers_, record.layers);
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

void TrainStep::count_loads(int64_t number) {
  decided_.resize(batches_.size());
  for (size_t i = 0; i < batches_.size(); ++i) {
    LayerContext ctx = workspace_.context(true, number);
    const ModelBatch on_device = batches_[i].upload_to(ctx);
    parts_.model.route(ctx, on_device);
    parts_.model.observe(ctx, on_device);
    decided_[i].clear();
    for (const MoeDecisions* decisions : model_decisions_) decided_[i].push_back(*decisions);
    workspace_.release_activations();
  }
  share_loads(number);
}

void TrainStep::share_loads(int64_t number) {
  loads_.clear();
  for (const MoeLayer* layer : moe_layers_) {
    const MoeObservation& seen = layer->observation();
    loads_.push_back(seen.tokens);
    loads_.insert(loads_.end(), seen.chosen.begin(), seen.chosen.end());
  }
  // Whole numbers far below 2^53: exact in any order.
  add_up_over_ranks(*parts_.groups.world, loads_);
  auto next = loads_.begin();
  for (MoeLayer* layer : moe_layers_) {
    load_.step = static_cast<uint32_t>(number);
    load_.tokens = static_cast<int64_t>(*next++);
    load_.chosen.clear();
    for (size_t e = 0; e < layer->observation().chosen.size(); ++e) {
      load_.chosen.push_back(static_cast<int64_t>(*next++));
    }
    layer->set_global_load(load_);
  }
}

// Of losses float64 [T].
static double sum_by_leaf(LayerContext& ctx, TensorView losses, LeafOffsets leaves) {
  const auto values = host_values<double>(ctx, losses);
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
    for (size_t i = 0; i < decided->size(); ++i) *model_decisions_[i] = (*decided)[i];
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
