#include "trainer/layout_comparison.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>

#include "collectives/single.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "trainer/train_step.h"

namespace switchyard::test {

namespace {

constexpr const char* kSmallConfig = R"(
name: small
device: cpu
model: {d_model: 24, d_kv: 8, d_ff: 40, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 5
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 30, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: linear_warmup_cosine, learning_rate: 0.003, warmup_steps: 5}
)";
constexpr double kTolerance = 1e-5;
constexpr double kUpdateShare = 0.05;  // of the learning rate

// One rank's training of the small config.
class SmallRun {
 public:
  SmallRun(const LayoutCase& layout, int expert_group, int expert_tensor, Collectives& world)
      : config_(parse_config(kSmallConfig, "small.yaml",
                             overrides(layout, expert_group, expert_tensor), choice_tables())),
        source_(11, 7, 128),
        parts_(config_, 128, world, 1),
        step_({*parts_.kernels, parts_.groups, *parts_.model, *parts_.optimizer, *parts_.schedule,
               source_},
              {.layout = parts_.layout, .seed = 7, .clip_norm = config_.train.clip_norm}) {}

  const std::vector<Weight*>& weights() const { return parts_.weights; }
  std::vector<OptimizerState> states() { return parts_.optimizer->states(); }
  TrainStep& step() { return step_; }

 private:
  static std::vector<std::string> overrides(const LayoutCase& layout, int expert_group,
                                            int expert_tensor) {
    std::vector<std::string> all = layout.overrides;
    all.push_back("parallel.expert=" + std::to_string(expert_group));
    all.push_back("parallel.expert_tensor=" + std::to_string(expert_tensor));
    return all;
  }

  Config config_;
  RandomSource source_;
  RunParts parts_;
  TrainStep step_;
};

StepTrace::Named copy_of(const std::string& name, const Weight& weight, TensorView view) {
  const float* data = view.data<float>();
  StepTrace::Named copy{name, {data, data + view.elements()}, weight.is_expert() ? 1 : 0};
  for (int i = 1; i < view.shape().rank(); ++i) copy.expert_elements *= view.shape()[i];
  return copy;
}

std::vector<StepTrace::Named> copy_weights(const SmallRun& run, bool gradients) {
  std::vector<StepTrace::Named> copies;
  for (const Weight* weight : run.weights()) {
    copies.push_back(
        copy_of(weight->name(), *weight, gradients ? weight->gradient() : weight->master()));
  }
  return copies;
}

std::vector<StepTrace::Named> copy_states(SmallRun& run) {
  std::vector<StepTrace::Named> copies;
  for (const OptimizerState& state : run.states()) {
    copies.push_back(copy_of(state.weight->name() + "/" + state.name, *state.weight, state.value));
  }
  return copies;
}

// The part of a reference tensor that stands in a rank's `view`.
std::vector<float> part_of(const StepTrace::Named& whole, const Weight& weight, TensorView view) {
  if (!weight.is_expert()) return whole.values;
  const ExpertRange& range = weight.experts();
  ElementRuns runs{1, whole.expert_elements, 0, whole.expert_elements};
  if (view.shape() == weight.shape()) runs = weight.runs();
  std::vector<float> part;
  for (int64_t expert = range.first; expert < range.first + range.count; ++expert) {
    auto from = whole.values.begin() + expert * whole.expert_elements + runs.first;
    for (int64_t run = 0; run < runs.count; ++run, from += runs.stride) {
      part.insert(part.end(), from, from + runs.length);
    }
  }
  return part;
}

void set(TensorView view, std::span<const float> values) {
  ASSERT_EQ(view.elements(), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), view.data<float>());
}

void start_from(SmallRun& run, const StepTrace& reference) {
  for (size_t i = 0; i < run.weights().size(); ++i) {
    Weight& weight = *run.weights()[i];
    ASSERT_EQ(weight.name(), reference.weights_before[i].name);
    set(weight.master(), part_of(reference.weights_before[i], weight, weight.master()));
    weight.master_changed();
  }
  const std::vector<OptimizerState> states = run.states();
  for (size_t i = 0; i < states.size(); ++i) {
    set(states[i].value, part_of(reference.state_before[i], *states[i].weight, states[i].value));
  }
}

void zero_routers(SmallRun& run) {
  for (Weight* weight : run.weights()) {
    if (weight->role() != WeightRole::kRouter) continue;
    std::fill_n(weight->master().data<float>(), weight->master().elements(), 0.0f);
    weight->master_changed();
  }
}

// max|difference| <= tolerance * max|whole reference tensor| + absolute.
void expect_near(const StepTrace::Named& whole, const Weight& weight, TensorView view,
                 double absolute, const std::string& what) {
  const std::vector<float> part = part_of(whole, weight, view);
  ASSERT_EQ(view.elements(), static_cast<int64_t>(part.size())) << whole.name;
  double largest = 0, difference = 0;
  for (float value : whole.values) largest = std::max<double>(largest, std::abs(value));
  for (size_t i = 0; i < part.size(); ++i) {
    difference = std::max<double>(difference, std::abs(view.data<float>()[i] - part[i]));
  }
  EXPECT_LE(difference, kTolerance * largest + absolute)
      << what << " of " << whole.name << " on rank " << current_rank() << ", largest value "
      << largest;
}

void expect_same_record(const StepRecord& seen, const StepRecord& expected) {
  const auto near = [](double a, double b, const char* what) {
    EXPECT_LE(std::abs(a - b), kTolerance * std::abs(b)) << what << " on rank " << current_rank();
  };
  near(seen.loss, expected.loss, "loss");
  near(seen.load_balance, expected.load_balance, "load_balance");
  near(seen.router_z, expected.router_z, "router_z");
  near(seen.output_z, expected.output_z, "output_z");
  near(seen.gradient_norm, expected.gradient_norm, "gradient_norm");
  EXPECT_EQ(seen.target_tokens, expected.target_tokens);
  EXPECT_EQ(seen.dropped_share, expected.dropped_share);
  ASSERT_EQ(seen.layers.size(), expected.layers.size());
  // A step starts from equal weights and a row's result doesn't depend on the other rows of a
  // product: no choice of an expert may flip, not even at a near tie.
  for (size_t i = 0; i < seen.layers.size(); ++i) {
    EXPECT_EQ(seen.layers[i].load, expected.layers[i].load) << seen.layers[i].name;
    EXPECT_EQ(seen.layers[i].dropped_share, expected.layers[i].dropped_share);
  }
}

}  // namespace

void PrintTo(const LayoutCase& layout, std::ostream* out) { *out << layout.name; }

std::vector<LayoutCase> threaded_layouts() {
  const std::vector<std::string> seven = {"moe.experts=7"};
  const std::vector<std::string> two_groups = {"moe.group_sequences=8"};
  const std::vector<std::string> accumulated = {"train.micro_batches=4"};
  // No wider tolerance: activations and their gradients are equal bit for bit in every layout, for
  // rows are rounded one by one; what is summed over rows and ranks is float32.
  const std::vector<std::string> half = {"train.precision=bfloat16"};
  const std::vector<std::string> global = {"moe.losses.load_balance.scope=global",
                                           "moe.expert_dropout=0.3",
                                           "moe.capacity.priority=random"};
  std::vector<std::string> two_passes = global;
  two_passes.insert(two_passes.end(), {"moe.losses.load_balance.two_pass=true",
                                       "train.micro_batches=4", "train.recompute=blocks"});
  const std::vector<std::string> rerouted = {"moe.capacity.overflow=reroute",
                                             "moe.dispatch=hierarchical"};
  const std::vector<std::string> in_rounds = {
      "moe.capacity={overflow: dropless, max_tokens_per_round: 64}", "moe.dispatch=hierarchical",
      "moe.overlap_chunks=2", "parallel.ranks_per_node=2"};
  return {
      {"single", 1, 1},
      {"replicas_only_2x1", 2, 1},
      {"sharded_2x2", 2, 2},
      {"eight_groups_on_3x1", 3, 1},
      {"eight_groups_on_3x3", 3, 3},
      {"seven_experts_on_3x3", 3, 3, seven},
      {"replicas_only_4x1", 4, 1},
      {"mixed_4x2", 4, 2},
      {"sharded_4x4", 4, 4},
      {"mixed_6x3", 6, 3, seven},
      {"mixed_8x2", 8, 2},
      {"mixed_8x4", 8, 4},
      {"more_ranks_than_experts_8x8", 8, 8},
      {"more_ranks_than_groups_4x4", 4, 4, two_groups},
      {"more_ranks_than_groups_8x2", 8, 2, two_groups},
      {"accumulated_2x2", 2, 2, accumulated},
      {"accumulated_3x3", 3, 3, accumulated},
      {"bfloat16_2x2", 2, 2, half},
      {"bfloat16_4x2", 4, 2, half},
      {"bfloat16_4x4", 4, 4, half},
      {"bfloat16_accumulated_3x1", 3, 1, {"train.precision=bfloat16", "train.micro_batches=4"}},
      {"global_scope_2x2", 2, 2, global},
      {"two_passes_recomputed_3x3", 3, 3, two_passes},
      {"two_passes_recomputed_4x2", 4, 2, two_passes},
      {"rerouted_on_one_node_2x2", 2, 2, rerouted},
      {"in_rounds_on_two_nodes_4x4", 4, 4, in_rounds},
      {"all_to_one_expert_2x2", 2, 2, {}, true},
      {"all_to_one_expert_4x4", 4, 4, {}, true},
      {.name = "sliced_2x2x2", .ranks = 2, .expert_group = 2, .expert_tensor = 2},
      {.name = "sliced_3x3x3",
       .ranks = 3,
       .expert_group = 3,
       .overrides = {"model.d_ff=36"},
       .expert_tensor = 3},
      {.name = "sliced_4x2x2_accumulated",
       .ranks = 4,
       .expert_group = 2,
       .overrides = accumulated,
       .expert_tensor = 2},
      {.name = "sliced_4x4x2_two_passes_recomputed",
       .ranks = 4,
       .expert_group = 4,
       .overrides = two_passes,
       .expert_tensor = 2},
      {.name = "sliced_4x4x4_all_to_one_expert",
       .ranks = 4,
       .expert_group = 4,
       .all_to_expert_0 = true,
       .expert_tensor = 4},
      {.name = "sliced_8x8x2_places_without_experts",
       .ranks = 8,
       .expert_group = 8,
       .overrides = {"moe.experts=2"},
       .expert_tensor = 2},
  };
}

std::vector<LayoutCase> optimizer_layouts() {
  const std::string adafactor = "optimizer={type: adafactor, min_size_to_factor: 8, weight_decay: ";
  const std::vector<std::string> layer = {adafactor + "0.1}"};
  const std::vector<std::string> expert = {adafactor + "0, stacked_experts: expert}"};
  const std::vector<std::string> losses = {
      "optimizer={type: sgd, groups: {router: {learning_rate_scale: 0.1}}}",
      "train.label_smoothing=0.1", "train.output_z_loss=0.001"};
  return {
      {"adafactor_layer_2x2", 2, 2, layer},
      {"adafactor_layer_3x3", 3, 3, layer},
      {"adafactor_layer_4x2", 4, 2, layer},
      {"adafactor_layer_8x8", 8, 8, layer},
      {"adafactor_expert_2x1", 2, 1, expert},
      {"adafactor_expert_3x3", 3, 3, expert},
      {"adafactor_expert_4x4", 4, 4, expert},
      {"sgd_with_all_losses_3x3", 3, 3, losses},
      {.name = "sgd_sliced_4x4x2",
       .ranks = 4,
       .expert_group = 4,
       .overrides = losses,
       .expert_tensor = 2},
  };
}

std::vector<LayoutCase> mpirun_layouts(int ranks) {
  std::vector<LayoutCase> layouts;
  for (const LayoutCase& layout : threaded_layouts()) {
    if (layout.ranks == ranks) layouts.push_back(layout);
  }
  return layouts;
}

std::vector<StepTrace> run_reference(const LayoutCase& layout) {
  const auto world = make_single_collectives();
  SmallRun run(layout, 1, 1, *world);
  std::vector<StepTrace> traces;
  for (int i = 0; i < kSteps; ++i) {
    if (layout.all_to_expert_0) zero_routers(run);
    StepTrace trace;
    trace.weights_before = copy_weights(run, false);
    trace.state_before = copy_states(run);
    trace.record = run.step().accumulate(i);
    trace.gradients = copy_weights(run, true);
    run.step().update(i, trace.record);
    trace.weights_after = copy_weights(run, false);
    trace.state_after = copy_states(run);
    traces.push_back(std::move(trace));
  }
  return traces;
}

void compare_with_reference(const LayoutCase& layout, const std::vector<StepTrace>& reference,
                            Collectives& world) {
  SmallRun run(layout, layout.expert_group, layout.expert_tensor, world);
  for (int i = 0; i < kSteps; ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    const StepTrace& expected = reference[static_cast<size_t>(i)];
    start_from(run, expected);
    StepRecord record = run.step().accumulate(i);
    for (size_t w = 0; w < run.weights().size(); ++w) {
      const Weight& weight = *run.weights()[w];
      expect_near(expected.gradients[w], weight, weight.gradient(), 0, "gradient");
    }
    run.step().update(i, record);
    expect_same_record(record, expected.record);
    const double slack = kUpdateShare * record.learning_rate;
    for (size_t w = 0; w < run.weights().size(); ++w) {
      const Weight& weight = *run.weights()[w];
      expect_near(expected.weights_after[w], weight, weight.master(), slack, "update");
    }
    const std::vector<OptimizerState> states = run.states();
    for (size_t s = 0; s < states.size(); ++s) {
      expect_near(expected.state_after[s], *states[s].weight, states[s].value, 0, "state");
    }
  }
}

}  // namespace switchyard::test
