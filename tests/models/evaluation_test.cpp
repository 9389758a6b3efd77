// Evaluation: nothing random is on, and capacity follows eval_factor.
#include <gtest/gtest.h>

#include <map>

#include "models/random_source.h"
#include "models/small_model.h"
#include "trainer/evaluator.h"
#include "trainer/micro_batch.h"

namespace switchyard::test {
namespace {

ModelOptions options_under_test() {
  ModelOptions options = tiny_options();
  options.experts = 3;
  options.dropout = options.expert_dropout = 0.3;
  options.jitter = 0.3;
  // Groups of 4 * 6 and 4 * 5 tokens: rooms of 4 and 4 in training, of 10 and 9 in evaluation.
  options.capacity = {.train_factor = 0.5, .eval_factor = 1.25, .min_tokens = 1};
  options.capacity.priority = CapacityRule::Priority::kRandom;
  return options;
}

class Evaluation : public testing::TestWithParam<Arithmetic> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "not usable on this machine";
  }

  // Losses of every target; `step` would key random numbers.
  Numbers losses(const ModelOptions& options, bool training, int64_t step) {
    SingleModel model(GetParam(), options);
    LayerContext ctx = model->context(training, step);
    const ModelBatch on_device = batch_.upload_to(ctx);
    const Numbers result = numbers_of(ctx, model->model().forward(ctx, on_device, 1.0));
    most_kept_.clear();
    for (const auto& mixtures :
         {model->model().encoder_mixtures(), model->model().decoder_mixtures()}) {
      for (const MoeLayer::Saved* saved : mixtures) {
        if (saved) most_kept_.push_back(most_kept(ctx, *saved));
      }
    }
    return result;
  }

  // The largest number of tokens that an expert took of a group.
  static int64_t most_kept(LayerContext& ctx, const MoeLayer::Saved& saved) {
    const auto kept = read_back_as<int32_t>(ctx, saved.kept);
    std::map<std::pair<size_t, int32_t>, int64_t> counts;
    int64_t most = 0;
    for (size_t t = 0; t < kept.size(); ++t) {
      if (kept[t] >= 0) most = std::max(most, ++counts[{t * kGroups / kept.size(), kept[t]}]);
    }
    return most;
  }

  static constexpr size_t kGroups = 2;
  const RandomSource source_{6, 5, 23};
  const MicroBatch batch_{source_, {.sequences = 8, .group_sequences = 4}, 0, 0, 0};
  std::vector<int64_t> most_kept_;  // of each mixture in the last call of losses
};

TEST_P(Evaluation, IsDeterministic) {
  const ModelOptions options = options_under_test();
  const Numbers first = losses(options, false, 0);
  EXPECT_EQ(losses(options, false, 1), first);
  EXPECT_NE(losses(options, true, 0), losses(options, true, 1));

  ModelOptions plain = options;
  plain.dropout = plain.expert_dropout = plain.jitter = 0;
  plain.capacity.priority = CapacityRule::Priority::kPosition;
  EXPECT_EQ(losses(plain, false, 0), first);
}

TEST_P(Evaluation, UsesTheEvaluationFactor) {
  const ModelOptions options = options_under_test();
  losses(options, true, 0);
  EXPECT_EQ(most_kept_, (std::vector<int64_t>{4, 4}));
  losses(options, false, 0);
  const std::vector<int64_t> roomier = most_kept_;
  EXPECT_GT(roomier[0], 4);
  EXPECT_GT(roomier[1], 4);
  EXPECT_LE(roomier[0], 10);
  EXPECT_LE(roomier[1], 9);

  ModelOptions none = options;
  none.capacity.eval_factor = 100;
  losses(none, false, 0);
  EXPECT_GE(most_kept_[0], roomier[0]);
}

class SixteenSamples : public RandomSource {
 public:
  SixteenSamples() : RandomSource(6, 5, 23) {}
  int64_t epoch_size() const override { return 16; }
};

// In one batch or in four.
TEST(EvaluationSet, AuxiliaryLossesAreOfTheWholeSet) {
  using Scope = AuxiliaryLosses::Scope;
  const SixteenSamples source;
  ModelOptions options = options_under_test();
  for (const Scope scope : {Scope::kGroup, Scope::kGlobal}) {
    options.losses = {.load_balance = 1, .router_z = 1, .load_balance_scope = scope};
    SingleModel model(reference_float64(), options);
    const auto layers = [&](int64_t batch) {
      return Evaluator(model->kernels(), model->groups(), model->model(), source,
                       {.layout = {.sequences = batch, .group_sequences = 4}, .sequences = 16})
          .run(0)
          .layers;
    };
    const std::vector<LayerRecord> whole = layers(16), parts = layers(4);
    ASSERT_EQ(parts.size(), 2u);
    for (size_t i = 0; i < parts.size(); ++i) {
      EXPECT_GT(whole[i].load_balance, 0.5);
      EXPECT_NEAR(parts[i].load_balance, whole[i].load_balance, 1e-12);
      EXPECT_NEAR(parts[i].router_z, whole[i].router_z, 1e-12);
    }
  }
}

std::string name_of_parameter(const testing::TestParamInfo<Arithmetic>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, Evaluation, testing::ValuesIn(arithmetics()), name_of_parameter);

}  // namespace
}  // namespace switchyard::test
