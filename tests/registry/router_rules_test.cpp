// Which routers go with which capacity, losses, stacks and numbers of experts: what is refused, and
// that the rest is accepted.
#include <gtest/gtest.h>

#include "base/errors.h"
#include "config/config.h"
#include "registry/choices.h"
#include "registry/option_rules.h"

namespace switchyard {
namespace {

// The refusal of a config, or "" where there is none.
std::string refusal(const std::string& yaml) {
  try {
    parse_config(yaml, "a.yaml", {}, choice_tables());
  } catch (const ConfigError& error) {
    return error.summary();
  }
  return "";
}

std::string encoder(const std::string& router, const std::string& more = "") {
  return "moe: {experts: 8, encoder: {router: {" + router + "}" + more + "}}";
}

struct Refused {
  std::string name, yaml, what;
};

void PrintTo(const Refused& refused, std::ostream* out) { *out << refused.name; }

class RefusedRouter : public testing::TestWithParam<Refused> {};

TEST_P(RefusedRouter, IsTold) { EXPECT_EQ(refusal(GetParam().yaml), GetParam().what); }

INSTANTIATE_TEST_SUITE_P(
    All, RefusedRouter,
    testing::Values(
        Refused{"more_choices_than_experts", encoder("type: top_k, top_k: 9"),
                "moe.encoder.router needs 9 experts a token, a layer has 8"},
        Refused{"two_of_one_expert", "moe: {experts: 1, encoder: {router: {type: gshard}}}",
                "moe.encoder.router needs 2 experts a token, a layer has 1"},
        Refused{"expert_choice_in_a_decoder", "moe: {decoder: {router: {type: expert_choice}}}",
                "moe.decoder.router.type = expert_choice looks at the future in a causal stack: a "
                "later token can take an earlier one's place at an expert"},
        Refused{"soft_in_a_decoder", "moe: {decoder: {router: {type: soft}}}",
                "moe.decoder.router.type = soft looks at the future in a causal stack: every slot "
                "has a part of every token"},
        Refused{"hash_rerouted", encoder("type: hash", ", capacity: {overflow: reroute}"),
                "capacity.overflow = reroute doesn't exist for the router hash of moe.encoder"},
        Refused{"expert_choice_dropless",
                encoder("type: expert_choice", ", capacity: {overflow: dropless}"),
                "capacity.overflow = dropless contradicts the router expert_choice of moe.encoder, "
                "which fills the room that there is"},
        Refused{"expert_choice_of_too_many",
                "moe: {experts: 257, encoder: {router: {type: expert_choice}}}",
                "moe.encoder.router: 257 experts can't all choose one token"},
        Refused{"uneven_groups", encoder("type: hierarchical, groups: {count: 3}"),
                "moe.encoder.router.groups: 3 groups don't divide 8 experts"},
        Refused{"uneven_choices", encoder("type: hierarchical, top_k: 3"),
                "moe.encoder.router.groups: top = 2 of 4 groups doesn't share out top_k = 3 "
                "evenly"},
        Refused{"a_group_without_gradient",
                encoder("type: hierarchical, top_k: 2, groups: {count: 2, top: 1}"),
                "moe.encoder.router: normalize gives the only one of a token's groups the weight "
                "1, and its gate no gradient"},
        Refused{"an_expert_without_gradient", encoder("type: hierarchical, top_k: 2"),
                "moe.encoder.router: normalize gives the only one of a group's experts the weight "
                "1, and its gate no gradient"},
        Refused{"more_slots_than_tokens", encoder("type: soft, slots_per_expert: 129"),
                "moe.encoder.router.slots_per_expert = 129 is more than the 128 tokens of a "
                "sequence"}),
    [](const auto& all) { return all.param.name; });

// The beginnings of what a config is warned of.
std::vector<std::string> warnings(const std::string& yaml) {
  std::vector<std::string> warnings;
  for (const std::string& line :
       warnings_of_routing(parse_config(yaml, "a.yaml", {}, choice_tables()))) {
    warnings.push_back(line.substr(0, line.find(':')));
  }
  return warnings;
}

TEST(RouterRules, WarnOfWhatLooksAtLaterTokens) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(warnings(""), Lines());
  EXPECT_EQ(warnings("moe: {encoder: {router: {type: sinkhorn, top_k: 2}}}"), Lines());
  EXPECT_EQ(warnings("moe: {decoder: {router: {type: sinkhorn}}}"),
            Lines({"moe.decoder.router.type = sinkhorn"}));
  EXPECT_EQ(warnings("moe: {decoder: {router: {type: gshard}, capacity: {priority: random}}}"),
            Lines({"capacity.priority = random in the decoder",
                   "2 experts a token with a capacity in the decoder"}));
  EXPECT_EQ(warnings("moe: {decoder: {router: {type: top_k}, capacity: {overflow: dropless}}}"),
            Lines());
}

TEST(RouterRules, AcceptEveryRouterInTheEncoder) {
  for (const ChoiceRow& row : choice_tables().rows("router")) {
    EXPECT_EQ(refusal(encoder("type: " + row.name)), "") << row.name;
  }
}

}  // namespace
}  // namespace switchyard
