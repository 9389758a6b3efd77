#include "trainer/evaluator.h"

#include <algorithm>

#include "base/timer.h"
#include "trainer/metrics.h"
#include "trainer/rehearsal.h"

namespace switchyard {

namespace {

// Targets of sequence i with the inputs of sequence (i + n / 2) mod n: the order of a set is
// random, so this is a shuffle without fixed points. Evaluation rows hold one sample each.
class ShuffledInputs : public TokenSource {
 public:
  ShuffledInputs(const TokenSource& source, int64_t sequences)
      : source_(source), sequences_(sequences) {}

  bool causal() const override { return source_.causal(); }
  int inputs_width() const override { return source_.inputs_width(); }
  int targets_width() const override { return source_.targets_width(); }
  const Vocabulary& vocabulary() const override { return source_.vocabulary(); }
  const std::vector<std::string>& label_names() const override { return source_.label_names(); }
  int64_t epoch_size() const override { return source_.epoch_size(); }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    std::vector<int64_t> others(global_indices.begin(), global_indices.end());
    for (int64_t& index : others) index = (index + sequences_ / 2) % sequences_;
    TokenBatch inputs;
    source_.fill(global_indices, batch);
    source_.fill(others, inputs);
    batch.inputs = std::move(inputs.inputs);
    batch.inputs_segment = std::move(inputs.inputs_segment);
  }

 private:
  const TokenSource& source_;
  int64_t sequences_;
};

}  // namespace

struct Evaluator::Sums {
  std::vector<double> loss, target_tokens;  // by label
};

Evaluator::Evaluator(Kernels& kernels, const Groups& groups, Model& model,
                     const TokenSource& source, const Options& options)
    : model_(model),
      groups_(groups),
      source_(source),
      options_(options),
      workspace_(kernels, groups, 0),
      unigram_entropy_(unigram_entropy(source).nats_per_token) {
  if (options.ordered) workspace_.order_sums(1, 1);  // no gradients: only sums of losses
}

void Evaluator::rehearse() {
  BatchLayout layout = options_.layout;
  layout.sequences = std::min(layout.sequences, options_.sequences);
  switchyard::rehearse(workspace_, model_, source_, layout, false);
}

EvaluationRecord Evaluator::run(int64_t step) {
  return *run(step, [] { return false; });
}

std::optional<EvaluationRecord> Evaluator::run(int64_t step, const std::function<bool()>& stop) {
  const Timer timer;
  Collectives& world = *groups_.world;
  const ShuffledInputs shuffled(source_, options_.sequences);
  const TokenSource& source = options_.shuffle_inputs ? shuffled : source_;
  const size_t labels = source_.label_names().size();
  Sums sums{std::vector<double>(labels), std::vector<double>(labels)};
  for (MoeLayer* layer : model_.moe_layers()) {
    layer->observation().clear(static_cast<int64_t>(labels), options_.trace_tokens);
  }

  for (int64_t first = 0; first < options_.sequences; first += options_.layout.sequences) {
    if (stop()) return {};
    BatchLayout layout = options_.layout;
    layout.sequences = std::min(layout.sequences, options_.sequences - first);
    run_batch(MicroBatch(source, layout, 0, world.rank(), first), sums);
  }
  const std::vector<double> loss = sum_over_ranks(world, sums.loss);
  const std::vector<double> tokens = sum_over_ranks(world, sums.target_tokens);

  EvaluationRecord record{.step = step,
                          .sequences = options_.sequences,
                          .unigram_entropy = unigram_entropy_,
                          .inputs_shuffled = options_.shuffle_inputs};
  double all_loss = 0, all_tokens = 0;
  for (size_t i = 0; i < labels; ++i) {
    all_loss += loss[i];
    all_tokens += tokens[i];
    record.labels.push_back({.name = source_.label_names()[i],
                             .loss = tokens[i] > 0 ? loss[i] / tokens[i] : 0.0,
                             .target_tokens = static_cast<int64_t>(tokens[i])});
  }
  record.loss = all_tokens > 0 ? all_loss / all_tokens : 0.0;
  record.target_tokens = static_cast<int64_t>(all_tokens);
  LayerSummary().fill(world, model_.moe_layers(), record.layers);
  record.dropped_share = dropped_share(record.layers);
  record.seconds = timer.seconds();
  return record;
}

int64_t Evaluator::all_groups() const {
  BatchLayout whole = options_.layout;
  whole.sequences = options_.sequences;
  return whole.groups();
}

void Evaluator::run_batch(const MicroBatch& batch, Sums& sums) {
  LayerContext ctx = workspace_.context(false, 0);
  ModelBatch on_device = batch.upload_to(ctx);
  // An auxiliary loss is the mean over all groups of the set, not the sum of the batches' means.
  on_device.encoder.groups_of_global_batch = all_groups();
  on_device.decoder.groups_of_global_batch = all_groups();
  const auto losses = read_back_as<double>(ctx, model_.forward(ctx, on_device, 0.0));
  model_.observe(ctx, on_device);
  for (size_t i = 0; i < losses.size(); ++i) {
    if (batch.samples().targets_segment[i] == 0) continue;
    const auto label = static_cast<size_t>(on_device.decoder.labels[i]);
    sums.loss[label] += ordered_summand(ctx.ordered, losses[i], kTokenSumBits);
    sums.target_tokens[label] += 1;
  }
  workspace_.release();
}

}  // namespace switchyard
