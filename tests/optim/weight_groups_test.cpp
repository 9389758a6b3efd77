// The groups of weights, the same for all optimizers: a weight of a group is updated bit for bit as
// if the group's settings were everybody's.
#include "optim/weight_groups.h"

#include <gtest/gtest.h>

#include <map>

#include "backends/reference/reference_kernels.h"
#include "base/errors.h"
#include "config/config.h"
#include "optim/role_weights.h"
#include "registry/choices.h"

namespace switchyard::test {
namespace {

constexpr double kRate = 0.1;

Config config_of(const std::string& optimizer, const std::string& more = "") {
  return parse_config("moe: {encoder: {layers: all}}\noptimizer: {" + optimizer + "}\n" + more,
                      "a.yaml", {}, choice_tables());
}

using WeightsByName = std::map<std::string, Numbers>;

// All weights after three steps.
WeightsByName trained(const std::string& optimizer, double rate) {
  OnlyRank rank(make_reference_kernels());
  const RoleWeights owned(rank.ctx(), DType::kFloat64, rank.memory());
  const std::vector<Weight*> weights = owned.pointers();
  const Config config = config_of(optimizer);
  const auto made = make_optimizer(config.optimizer, weights, rank.rank().groups());
  for (int t = 0; t < 3; ++t) {
    for (Weight* weight : weights) {
      set_numbers(rank.ctx(), normal_numbers(weight->name() + std::to_string(t), weight->shape()),
                  weight->gradient());
    }
    made->step(rank.ctx(), {.number = t, .learning_rate = rate});
  }
  WeightsByName result;
  for (Weight* weight : weights) {
    result[weight->name()] = numbers_of(rank.ctx(), weight->master());
  }
  return result;
}

class WeightGroups : public testing::TestWithParam<std::string> {};

TEST_P(WeightGroups, AreUpdatedByTheirOwnSettings) {
  const std::string type = "type: " + GetParam();
  const WeightsByName seen =
      trained(type +
                  ", weight_decay: 0.2, groups: {router: {learning_rate_scale: 0.5}, "
                  "experts: {learning_rate_scale: 3, weight_decay: 0.1}, dense: {weight_decay: 0}}",
              kRate);
  const WeightsByName router = trained(type + ", weight_decay: 0.2", 0.5 * kRate);
  const WeightsByName experts = trained(type + ", weight_decay: 0.1", 3 * kRate);
  const WeightsByName dense = trained(type + ", weight_decay: 0", kRate);
  EXPECT_EQ(seen.at("router"), router.at("router"));
  EXPECT_EQ(seen.at("expert.*.wi"), experts.at("expert.*.wi"));
  for (const char* name : {"dense", "embedding", "norm", "position_bias"}) {
    EXPECT_EQ(seen.at(name), dense.at(name)) << name;
  }
  EXPECT_NE(router.at("router"), dense.at("router"));
}

TEST_P(WeightGroups, AtRateZeroStayAsTheyAre) {
  const std::string type = "type: " + GetParam();
  const WeightsByName before = trained(type, 0);
  const WeightsByName seen = trained(type + ", groups: {dense: {learning_rate_scale: 0}}", kRate);
  EXPECT_EQ(seen.at("embedding"), before.at("embedding"));
  EXPECT_NE(seen.at("router"), before.at("router"));
}

TEST_P(WeightGroups, DecayIsDecoupledAndSparesNormsUnlessAsked) {
  const std::string type = "type: " + GetParam();
  const WeightsByName none = trained(type + ", weight_decay: 0", kRate);
  const WeightsByName some = trained(type + ", weight_decay: 0.1", kRate);
  const WeightsByName all = trained(type + ", weight_decay: 0.1, decay_norms: true", kRate);
  for (const auto& [name, weights] : none) {
    const bool spared = name == "norm" || name == "position_bias";
    if (weights.empty()) continue;
    EXPECT_EQ(some.at(name) == weights, spared) << name;
    EXPECT_NE(all.at(name), weights) << name;
    if (!spared) {
      EXPECT_EQ(all.at(name), some.at(name)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WeightGroups,
                         testing::Values("adamw", "sgd", "adafactor, stacked_experts: expert"),
                         [](const auto& all) { return all.param.substr(0, all.param.find(',')); });

struct Refused {
  std::string name, optimizer, more;
  std::vector<std::string> parts;  // of the message
};

TEST(OptimizerRules, RefuseWhatHasNoEffectOrContradicts) {
  const std::string dense = "moe: {encoder: {layers: none}, decoder: {layers: none}}\n";
  const std::vector<Refused> cases = {
      {"frozen",
       "groups: {router: {learning_rate_scale: 0, weight_decay: 0.1}}",
       "",
       {"optimizer.groups.router.weight_decay", "no effect"}},
      {"all_own",
       "weight_decay: 0.1, groups: {router: {weight_decay: 0}, experts: {weight_decay: 0}, "
       "dense: {learning_rate_scale: 0}}",
       "",
       {"optimizer.weight_decay", "no effect"}},
      {"norms", "weight_decay: 0, decay_norms: true", "", {"optimizer.decay_norms", "no effect"}},
      {"nesterov", "type: sgd, momentum: 0, nesterov: true", "", {"nesterov", "'momentum' is 0"}},
      {"epsilon2",
       "type: adafactor, multiply_by_parameter_scale: false, epsilon2: 0.1",
       "",
       {"epsilon2", "multiply_by_parameter_scale"}},
      {"stacked",
       "type: adafactor, multiply_by_parameter_scale: false, clip_threshold: none, "
       "stacked_experts: expert",
       "",
       {"stacked_experts", "neither clipping nor scaling"}},
      {"offset",
       "type: adafactor, step_offset: 1000",
       "train: {steps: 1000}",
       {"step_offset = 1000", "below train.steps, 1000"}},
      {"slices",
       "type: adafactor",
       "parallel: {expert_tensor: 2}",
       {"slices of experts", "sums over whole matrices", "use adamw or sgd"}},
      {"overlap",
       "type: sgd",
       "train: {steps: 100}\n"
       "schedule: {type: warmup_stable_decay, warmup_steps: 81, decay_steps: 20}",
       {"81 warm-up and 20 decay", "100 steps"}},
  };
  for (const Refused& refused : cases) {
    try {
      config_of(refused.optimizer, refused.more);
      ADD_FAILURE() << refused.name << " was accepted";
    } catch (const ConfigError& error) {
      for (const std::string& part : refused.parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << refused.name << ": " << error.what();
      }
      EXPECT_NE(std::string(error.what()).find("a.yaml:"), std::string::npos) << error.what();
    }
  }
}

// A dense model's resolved config lists the groups at their defaults, and is read back.
TEST(OptimizerRules, GroupsNeedTheirWeights) {
  const auto read = [](const std::string& text) {
    return parse_config("moe: {encoder: {layers: none}, decoder: {layers: none}}\n" + text,
                        "a.yaml", {}, choice_tables());
  };
  const Config plain = read("optimizer: {type: adafactor}\n");
  EXPECT_EQ(to_yaml(parse_config(to_yaml(plain), "b.yaml", {}, choice_tables())), to_yaml(plain));
  for (const char* group : {"router: {learning_rate_scale: 2}", "experts: {weight_decay: 0}"}) {
    try {
      read("optimizer:\n  groups: {" + std::string(group) + "}\n");
      ADD_FAILURE() << group << " was accepted";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("no mixture"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("a.yaml:3:"), std::string::npos) << error.what();
    }
  }
  EXPECT_NO_THROW(read("optimizer: {groups: {dense: {learning_rate_scale: 2}}}\n"));
}

}  // namespace
}  // namespace switchyard::test
