// The engine behind `switchyard verify`: layouts that agree, near ties, and every planted bug.
// tests/trainer has it compare many more layouts.
#include "verify/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/random_source.h"
#include "registry/choices.h"
#include "verify/layout_list.h"
#include "verify/planted_bugs.h"
#include "verify/table.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

constexpr const char* kConfig = R"(
name: small
device: cpu
model: {d_model: 16, d_kv: 8, d_ff: 24, heads: 2, encoder_layers: 2,
        decoder_layers: 2, dropout: 0.1, relative_attention: {buckets: 8, max_distance: 10}}
moe:
  experts: 6
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
train: {steps: 8, batch_sequences: 16, clip_norm: 0.5}
optimizer: {type: adamw}
schedule: {type: constant, learning_rate: 0.003}
)";
constexpr int64_t kSteps = 3;

VerifyCase make_case(const std::string& layout, std::vector<std::string> overrides = {}) {
  const VerifyLayout parsed = parse_layouts(layout).front();
  overrides.push_back("parallel.expert=" + std::to_string(parsed.expert_group));
  overrides.push_back("parallel.expert_tensor=" + std::to_string(parsed.expert_tensor));
  return {.name = layout,
          .config = parse_config(kConfig, "small.yaml", overrides, choice_tables()),
          .ranks = parsed.ranks};
}

class VerifierTest : public testing::Test {
 protected:
  Comparison compare(const VerifyCase& reference, const VerifyCase& tested,
                     const Verifier::MakeHooks& hooks = {}) {
    verifier_.run_reference(reference);
    return verifier_.compare(tested, hooks);
  }
  static void expect_agreement(const Comparison& seen) {
    EXPECT_FALSE(seen.failure) << place_of(*seen.failure) << ": " << seen.failure->what;
  }
  static void expect_equal_bits(const Comparison& seen) {
    expect_agreement(seen);
    for (size_t g = 0; g < kItemGroups; ++g) {
      EXPECT_TRUE(seen.groups[g].equal) << name_of(static_cast<ItemGroup>(g));
    }
  }

  RandomSource source_{11, 7, 128};
  std::unique_ptr<RankPool> pool_ = make_threaded_pool(1);
  Verifier verifier_{source_, *pool_, 128, kSteps};
};

TEST_F(VerifierTest, FastLayoutsAgreeToRoundingOnly) {
  const Comparison seen = compare(make_case("1"), make_case("4x2"));
  expect_agreement(seen);
  const auto& experts = seen.groups[static_cast<size_t>(ItemGroup::kExperts)];
  EXPECT_FALSE(experts.equal);
  EXPECT_GT(experts.largest, 0);
  const auto& routing = seen.groups[static_cast<size_t>(ItemGroup::kRouting)];
  EXPECT_LT(routing.largest, 1e-12);
  EXPECT_THAT(comparison_table({{"4x2", seen}}), HasSubstr("near-tie flips"));
}

TEST_F(VerifierTest, SlicesOfExpertsArePutTogether) {
  verifier_.run_reference(make_case("1"));
  expect_agreement(verifier_.compare(make_case("4x4x2")));
  verifier_.run_reference(make_case("4x2x2"));
  expect_agreement(verifier_.compare(make_case("3x1")));
  const VerifyCase half = make_case("2x2x2", {"train.precision=bfloat16"});
  EXPECT_THROW(verifier_.compare(half), ConfigError);
}

TEST_F(VerifierTest, OrderedLayoutsHaveEqualBits) {
  const std::vector<std::string> ordered = {"train.reduction=ordered", "train.micro_batches=1"};
  verifier_.run_reference(make_case("1", ordered));
  for (const char* layout : {"2x1", "3", "4x2"}) {
    SCOPED_TRACE(layout);
    expect_equal_bits(verifier_.compare(make_case(layout, ordered)));
  }
  for (const char* parts : {"train.micro_batches=2", "train.micro_batches=4"}) {
    SCOPED_TRACE(parts);
    expect_equal_bits(verifier_.compare(make_case("2", {ordered[0], parts})));
  }
  expect_equal_bits(verifier_.compare(make_case("4x2", {ordered[0], "optimizer.shard=true"})));
}

TEST_F(VerifierTest, AReferenceOfSeveralRanksIsPutTogether) {
  const std::vector<std::string> overrides = {"train.reduction=ordered", "optimizer.shard=true"};
  expect_equal_bits(compare(make_case("4x2", overrides), make_case("3x1", overrides)));
}

// Gives the routers' first experts weights that are equal but for `by`.
class TieRouters : public RunHooks {
 public:
  explicit TieRouters(float by) : by_(by) {}
  void before_step(HookedRank& rank) override {
    for (Weight* weight : rank.parts.weights) {
      if (weight->role() != WeightRole::kRouter) continue;
      auto row = read_back_as<float>(rank.ctx, weight->master().rows(0, 1));
      for (float& value : row) value += by_ * std::abs(value);
      upload(rank.ctx, std::span<const float>(row), weight->master().rows(1, 2));
      weight->master_changed();
    }
  }

 private:
  float by_;
};

TEST_F(VerifierTest, AFlipAtANearTieIsReplayedAndCounted) {
  // The lower index wins where the second expert isn't the least bit better.
  verifier_.run_reference(make_case("1"), [] { return std::make_unique<TieRouters>(0.0f); });
  const Comparison seen =
      verifier_.compare(make_case("2"), [] { return std::make_unique<TieRouters>(2e-7f); });
  expect_agreement(seen);
  EXPECT_GT(seen.near_ties, 0);
}

TEST_F(VerifierTest, AFlipAtALargerMarginFails) {
  verifier_.run_reference(make_case("1"), [] { return std::make_unique<TieRouters>(0.0f); });
  const Comparison seen =
      verifier_.compare(make_case("2"), [] { return std::make_unique<TieRouters>(0.01f); });
  ASSERT_TRUE(seen.failure);
  EXPECT_EQ(seen.failure->check, Check::kChoice);
  EXPECT_THAT(seen.failure->what, HasSubstr("choice of expert of encoder.block.1.moe ["));
  EXPECT_EQ(seen.failure->step, 1);
}

struct BugCase {
  std::string name, layout, found_by;
  std::vector<std::string> overrides = {};
};
void PrintTo(const BugCase& bug, std::ostream* out) { *out << bug.name; }

class PlantedBugs : public VerifierTest, public testing::WithParamInterface<BugCase> {};

TEST_P(PlantedBugs, AreFound) {
  const PlantedBug& bug = planted_bug(GetParam().name);
  for (const char* reduction : {"train.reduction=fast", "train.reduction=ordered"}) {
    SCOPED_TRACE(reduction);
    std::vector<std::string> overrides = GetParam().overrides;
    overrides.emplace_back(reduction);
    const VerifyCase tested = make_case(GetParam().layout, overrides);
    const PlantingPlace place{tested.config, tested.ranks, source_, kSteps};
    EXPECT_EQ(bug.impossible(place), "");
    verifier_.run_reference(make_case("1", overrides));
    if (GetParam().found_by.empty()) {
      EXPECT_THROW(verifier_.compare(tested, bug.hooks(place)), Error);
      continue;
    }
    const Comparison seen = verifier_.compare(tested, bug.hooks(place));
    ASSERT_TRUE(seen.failure);
    EXPECT_EQ(name_of(seen.failure->check), GetParam().found_by) << seen.failure->what;
  }
}

const std::vector<BugCase>& bug_cases() {
  static const std::vector<BugCase> cases = {
      {"grad-scale", "2", "gradient"},
      {"drop-shard", "4x2", "gradient"},
      {"unreduced-router", "2", "gradient"},
      {"lost-micro-batch", "2", "gradient", {"train.micro_batches=2"}},
      {"norm-double", "2x1", "gradient norm"},
      {"norm-local", "2", "gradient norm"},
      {"loss-mean", "2", "gradient"},
      {"aux-scale", "2", "auxiliary loss"},
      {"capacity-by-rank", "2", "kept choice"},
      {"seed-by-rank", "2", "choice of expert"},
      {"init-by-rank", "2", "weight"},
      {"sample-order", "2", "choice of expert"},
      {"stale-weight", "2", "choice of expert"},
      {"stale-bias",
       "2",
       "choice of expert",
       {"moe.encoder.router={type: top_k, bias_update_rate: 0.1}", "train.micro_batches=1"}},
      {"stale-optimizer-state", "2", "weight"},
      {"expert-swap", "2", "load"},
      {"wrong-count", "2", ""},
  };
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBugs, testing::ValuesIn(bug_cases()), [](const auto& tested) {
  std::string name = tested.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(PlantedBugTable, EveryBugIsTestedAndRefusedWhereItCannotOccur) {
  const RandomSource source(11, 7, 128);
  const VerifyCase alone = make_case("1");
  const PlantingPlace place{alone.config, 1, source, 1};
  EXPECT_EQ(planted_bugs().size(), bug_cases().size());
  for (const PlantedBug& bug : planted_bugs()) EXPECT_NE(bug.impossible(place), "") << bug.name;
  EXPECT_THROW(planted_bug("none-such"), ConfigError);
}

TEST(LayoutList, ReadsRanksAndGroups) {
  const std::vector<VerifyLayout> layouts = parse_layouts("1, 4x2,8");
  ASSERT_EQ(layouts.size(), 3u);
  EXPECT_EQ(layouts[1], (VerifyLayout{4, 2, 1}));
  EXPECT_EQ(layouts[2], (VerifyLayout{8, 8, 1}));
  EXPECT_EQ(parse_layouts("8x4x2").front(), (VerifyLayout{8, 4, 2}));
  EXPECT_EQ(layouts[1].text() + " " + layouts[2].text(), "4x2 8");
  for (const char* wrong : {"", "4x", "x2", "0", "4x3", "2x4", "two", "1,,2", "8x4x2x1"}) {
    EXPECT_THROW(parse_layouts(wrong), ConfigError) << wrong;
  }
}

}  // namespace
}  // namespace switchyard::test
