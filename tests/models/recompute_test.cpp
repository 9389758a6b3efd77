// Blocks whose activations are dropped and computed again, and global batches that are counted
// first: the same numbers as without, in less memory.
#include <gtest/gtest.h>

#include <map>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "models/small_model.h"
#include "optim/adamw.h"
#include "support/finite_differences.h"
#include "trainer/train_step.h"

namespace switchyard::test {
namespace {

// Everything random is on.
ModelOptions options_under_test() {
  ModelOptions options = tiny_options();
  options.encoder_blocks = options.decoder_blocks = 4;
  options.experts = 5;
  options.buckets = 8;
  options.max_distance = 6;
  options.activation = Activation::kSilu;
  options.dropout = 0.2;
  options.expert_dropout = 0.3;
  options.jitter = 0.1;
  options.capacity = {
      .train_factor = 0.8, .min_tokens = 1, .priority = CapacityRule::Priority::kRandom};
  options.losses = {.load_balance = 0.3, .router_z = 0.05};
  return options;
}

ModelOptions with_global_scope() {
  ModelOptions options = options_under_test();
  options.losses.load_balance_scope = AuxiliaryLosses::Scope::kGlobal;
  return options;
}

// A model and its training on one rank of a world.
class TrainingRun {
 public:
  TrainingRun(const Arithmetic& arithmetic, const ModelOptions& options, Collectives& world,
              int64_t micro_batches = 1)
      : rank_(arithmetic, options, world, world.size(), /*seed=*/1),
        optimizer_({}, rank_.model().weights()),
        step_({rank_.kernels(), rank_.groups(), rank_.model(), optimizer_, schedule_, source_},
              {.layout = {.sequences = 12,
                          .group_sequences = 1,
                          .micro_batches = micro_batches,
                          .ranks = world.size()},
               .seed = 4}) {}

  StepRecord accumulate() { return step_.accumulate(2); }
  ModelOnRank& rank() { return rank_; }
  SwitchT5& model() { return rank_.model(); }
  TrainStep& step() { return step_; }
  std::map<std::string, Numbers> gradients() {
    LayerContext ctx = rank_.context(true);
    std::map<std::string, Numbers> all;
    for (const NamedSlice& slice : slices_of(model().weights())) {
      all[slice.name] = numbers_of(ctx, slice.gradient());
    }
    return all;
  }

 private:
  ModelOnRank rank_;
  AdamW optimizer_;
  const ConstantSchedule schedule_{{}};
  const RandomSource source_{24, 20, 23};
  TrainStep step_;
};

void expect_equal_records(const StepRecord& seen, const StepRecord& expected) {
  EXPECT_EQ(seen.loss, expected.loss);
  EXPECT_EQ(seen.load_balance, expected.load_balance);
  EXPECT_EQ(seen.router_z, expected.router_z);
  EXPECT_EQ(seen.dropped_share, expected.dropped_share);
  EXPECT_EQ(seen.rows_exchanged, expected.rows_exchanged);
  ASSERT_EQ(seen.layers.size(), expected.layers.size());
  for (size_t i = 0; i < seen.layers.size(); ++i) {
    EXPECT_EQ(seen.layers[i].load, expected.layers[i].load);
    EXPECT_EQ(seen.layers[i].weight_lost_share, expected.layers[i].weight_lost_share);
    EXPECT_EQ(seen.layers[i].router_entropy, expected.layers[i].router_entropy);
  }
}

class Recompute : public testing::TestWithParam<Arithmetic> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "not usable on this machine";
  }
};

// No counter, metric or loss is touched twice, masks and decisions are the same: equal bits.
TEST_P(Recompute, GivesTheSameBitsInLessMemory) {
  for (const int ranks : {1, 2}) {
    run_threaded_ranks(ranks, [&](Collectives& world) {
      ModelOptions options = options_under_test();
      TrainingRun plain(GetParam(), options, world, 2);
      const StepRecord expected = plain.accumulate();
      ASSERT_GT(expected.dropped_share, 0);
      options.recompute = true;
      TrainingRun recomputed(GetParam(), options, world, 2);
      expect_equal_records(recomputed.accumulate(), expected);
      EXPECT_EQ(recomputed.gradients(), plain.gradients());
      // Eight blocks' activations become one block's and eight inputs.
      EXPECT_LT(static_cast<double>(recomputed.step().saved_high_water_bytes()),
                0.5 * static_cast<double>(plain.step().saved_high_water_bytes()));
    });
  }
}

TEST_P(Recompute, DecidesOnce) {
  ModelOptions options = options_under_test();
  options.recompute = true;
  SingleModel model(GetParam(), options);
  const RandomSource source(24, 20, 23);
  const MicroBatch batch(source, {.sequences = 4, .group_sequences = 1}, 0, 0, 0);
  LayerContext ctx = model->context(true, 2);
  const ModelBatch on_device = batch.upload_to(ctx);
  for (Weight* weight : model->model().weights()) weight->begin_step();
  model->model().forward(ctx, on_device, 1.0);
  const size_t decided = ctx.decisions.used_bytes(), saved = ctx.saved.used_bytes();
  EXPECT_GT(decided, 0u);
  model->model().backward(ctx, on_device);
  EXPECT_EQ(ctx.decisions.used_bytes(), decided);
  EXPECT_EQ(ctx.saved.used_bytes(), saved);
}

// The counting pass decides, the second one replays: with one micro-batch or more, and with
// recomputed blocks besides.
TEST_P(Recompute, GlobalScopeDoesNotDependOnAccumulationOrRanks) {
  const Arithmetic& arithmetic = GetParam();
  const double tolerance = arithmetic.tolerance(1e-11, 1e-5);
  const auto alone = make_single_collectives();
  TrainingRun whole(arithmetic, with_global_scope(), *alone);
  const StepRecord expected = whole.accumulate();
  const std::map<std::string, Numbers> gradients = whole.gradients();
  EXPECT_EQ(expected.counting_seconds, 0);
  for (const int ranks : {1, 2, 3, 4}) {
    for (const int64_t micro_batches : {1, 2, 4}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks, " + std::to_string(micro_batches) + " parts");
      run_threaded_ranks(ranks, [&](Collectives& world) {
        ModelOptions options = with_global_scope();
        options.recompute = micro_batches == 4;
        TrainingRun run(arithmetic, options, world, micro_batches);
        const StepRecord record = run.accumulate();
        EXPECT_EQ(record.counting_seconds > 0, micro_batches > 1);
        EXPECT_NEAR(record.loss, expected.loss, tolerance * expected.loss);
        EXPECT_NEAR(record.load_balance, expected.load_balance, tolerance * expected.load_balance);
        EXPECT_NEAR(record.router_z, expected.router_z, tolerance * expected.router_z);
        EXPECT_EQ(record.dropped_share, expected.dropped_share);
        for (size_t i = 0; i < record.layers.size(); ++i) {
          EXPECT_EQ(record.layers[i].load, expected.layers[i].load);
        }
        for (const auto& [name, gradient] : run.gradients()) {
          EXPECT_LE(relative_difference(gradient, gradients.at(name)), tolerance) << name;
        }
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Recompute, testing::ValuesIn(arithmetics()),
                         [](const auto& all) { return all.param.name; });

// E sum_e f_e P_e of a mixture from its probabilities, with f and P over all its real tokens.
double balance_by_hand(LayerContext& ctx, const MoeLayer::Saved& saved) {
  const Numbers probs = numbers_of(ctx, saved.routing->probs);
  const Numbers chosen = numbers_of(ctx, saved.counted);
  const auto experts = probs.size() / chosen.size();
  Numbers share(experts), mean(experts);
  double tokens = 0;
  for (size_t t = 0; t < chosen.size(); ++t) {
    if (chosen[t] < 0) continue;
    tokens += 1;
    share[static_cast<size_t>(chosen[t])] += 1;
    for (size_t e = 0; e < experts; ++e) mean[e] += probs[t * experts + e];
  }
  double balance = 0;
  for (size_t e = 0; e < experts; ++e) balance += share[e] / tokens * mean[e] / tokens;
  return static_cast<double>(experts) * balance;
}

TEST(GlobalScope, ValueIsThatOfTheWholeBatch) {
  const auto world = make_single_collectives();
  TrainingRun run(reference_float64(), with_global_scope(), *world);
  const StepRecord record = run.accumulate();
  // The same forward again, for its probabilities.
  const RandomSource source(24, 20, 23);
  const BatchLayout layout{.sequences = 12, .group_sequences = 1};
  const MicroBatch batch(source, layout, 0, 0, 2 * 12);
  LayerContext ctx = run.rank().context(true, 2);
  ctx.seed = 4;
  const ModelBatch on_device = batch.upload_to(ctx);
  run.model().route(ctx, on_device);
  double expected = 0;
  for (const auto& mixtures : {run.model().encoder_mixtures(), run.model().decoder_mixtures()}) {
    for (const MoeLayer::Saved* saved : mixtures) {
      if (saved) expected += 0.3 * balance_by_hand(ctx, *saved);
    }
  }
  EXPECT_NEAR(record.load_balance, expected, 1e-12);
  const StepRecord by_group =
      TrainingRun(reference_float64(), options_under_test(), *world).accumulate();
  EXPECT_GT(std::abs(by_group.load_balance - expected), 0.01 * expected);
}

// Loss and auxiliary losses of a whole step, counted first and recomputed, against differences.
// A decision that flipped would show as a wrong slope.
TEST(GlobalScope, StepMatchesFiniteDifferences) {
  const auto world = make_single_collectives();
  ModelOptions options = with_global_scope();
  options.recompute = true;
  options.encoder_blocks = options.decoder_blocks = 2;
  TrainingRun run(reference_float64(), options, *world, 4);
  run.accumulate();
  std::vector<Differentiated> tensors;
  for (const NamedSlice& slice : slices_of(run.model().weights())) {
    Differentiated all = differentiated(slice.name, slice.master(), slice.gradient());
    const int64_t stride = std::max<int64_t>(1, all.elements / 3);
    all.elements = (all.elements + stride - 1) / stride;
    all.value = [stride, value = all.value](int64_t i) { return value(i * stride); };
    all.written = [stride, written = all.written](int64_t i) { return written(i * stride); };
    all.changed = [weight = slice.weight] { weight->master_changed(); };
    tensors.push_back(all);
  }
  expect_gradients(tensors, [&] {
    const StepRecord record = run.accumulate();
    return record.loss + record.load_balance + record.router_z;
  });
}

}  // namespace
}  // namespace switchyard::test
