// Each router against its paper's formulas, written down again in float64.
#include <gtest/gtest.h>

#include <fstream>

#include "base/errors.h"
#include "moe/router_case.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

constexpr double kTolerance = 1e-13;

void expect_near(const Numbers& actual, const Numbers& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], kTolerance * std::max(1.0, std::abs(expected[i])))
        << what << " " << i;
  }
}

void append(std::vector<int32_t>& all, const std::vector<int32_t>& more) {
  all.insert(all.end(), more.begin(), more.end());
}
void append(Numbers& all, const Numbers& more) { all.insert(all.end(), more.begin(), more.end()); }

// Shazeer 2017, eq. 3 to 5.
struct NoisyGates {
  Numbers noisy, clean, deviation;  // [T, E]
  std::vector<int32_t> chosen;      // [T, K]
  Numbers weight;                   // [T, K]
};

NoisyGates noisy_gates(RouterRun& run, size_t top_k, bool training) {
  NoisyGates gates{.noisy = run.gate(0), .clean = run.gate(0), .deviation = run.gate(1)};
  for (size_t i = 0; i < gates.noisy.size(); ++i) {
    gates.deviation[i] = std::log(1 + std::exp(gates.deviation[i]));
    if (!training) continue;
    gates.noisy[i] += gates.deviation[i] *
                      random_normal(run.noise_key(), static_cast<uint32_t>(i / run.experts()), 0,
                                    static_cast<uint32_t>(i % run.experts()));
  }
  for (size_t t = 0; t < run.tokens(); ++t) {
    const Numbers row = row_of(gates.noisy, run.experts(), t);
    std::vector<int32_t> best = best_of(row, top_k);
    Numbers kept;
    for (const int32_t e : best) kept.push_back(row[static_cast<size_t>(e)]);
    kept = softmax_of(kept);
    if (!run.real(t)) {
      best.assign(top_k, -1);
      kept.assign(top_k, 0.0);
    }
    append(gates.chosen, best);
    append(gates.weight, kept);
  }
  return gates;
}

// Shazeer 2017, eq. 8 and 9.
double load_of(const NoisyGates& gates, size_t experts, size_t top_k, size_t t, size_t e) {
  Numbers others = row_of(gates.noisy, experts, t);
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(e));
  std::sort(others.begin(), others.end(), std::greater<>());
  const size_t i = t * experts + e;
  const double z = (gates.clean[i] - others[top_k - 1]) / gates.deviation[i];
  return 0.5 * (1 + std::erf(z / std::sqrt(2.0)));
}

TEST(NoisyTopK, FollowsShazeersEquations) {
  for (const bool training : {true, false}) {
    MoeCase moe_case = router_case<NoisyTopKRouter>("noisy", noisy_top_k_options(3));
    moe_case.training = training;
    moe_case.losses = {.importance = 0.4, .load = 0.7};
    RouterRun run(moe_case);
    const NoisyGates gates = noisy_gates(run, 3, training);
    EXPECT_EQ(run.integers(run.routing().chosen), gates.chosen);
    expect_near(run.numbers(run.routing().weight), gates.weight, "weight");
    ASSERT_EQ(run.routing().smooth_load.absent(), !training);

    double importance = 0, load = 0;
    for (const auto& tokens : run.groups()) {
      Numbers of_gates(run.experts()), of_load(run.experts());
      for (const size_t t : tokens) {
        for (size_t k = 0; k < 3; ++k) {
          of_gates[static_cast<size_t>(gates.chosen[t * 3 + k])] += gates.weight[t * 3 + k];
        }
        for (size_t e = 0; e < run.experts(); ++e) {
          of_load[e] += load_of(gates, run.experts(), 3, t, e);
        }
      }
      importance += 0.4 * cv_squared_of(of_gates) / 3;
      load += 0.7 * cv_squared_of(of_load) / 3;
    }
    EXPECT_NEAR(run.seen().importance, importance, 1e-12);
    EXPECT_NEAR(run.seen().load, training ? load : 0.0, 1e-12);
    EXPECT_GT(importance, 1e-3);
  }
}

TEST(NoisyTopK, StartsWithTheSameNoiseForAllExperts) {
  const RouterPlace place =
      router_place("router", 0, 6, 4, DType::kFloat64, HostMemory::instance());
  NoisyTopKRouter router(noisy_top_k_options(2), place);
  const Weight& noise = *router.weights()[1];
  EXPECT_EQ(noise.name(), "router.noise");
  for (int64_t i = 0; i < 24; ++i) EXPECT_EQ(noise.master().data<double>()[i], 0);
}

// Lepikhin 2020, algorithm 1.
TEST(GShard, FollowsItsAlgorithm) {
  for (const bool training : {true, false}) {
    MoeCase moe_case = router_case<GShardRouter>("gshard", GShardRouterOptions());
    moe_case.training = training;
    RouterRun run(moe_case);
    const Numbers logits = run.gate(0);
    std::vector<int32_t> chosen, sent;
    Numbers weight, counted(run.experts());
    int skipped = 0;
    for (size_t t = 0; t < run.tokens(); ++t) {
      const Numbers probs = softmax_of(row_of(logits, run.experts(), t));
      std::vector<int32_t> best = best_of(probs, 2);
      const double g1 = probs[static_cast<size_t>(best[0])];
      const double g2 = probs[static_cast<size_t>(best[1])];
      Numbers gates = {g1 / (g1 + g2), g2 / (g1 + g2)};
      if (run.real(t)) {
        for (const int32_t e : best) counted[static_cast<size_t>(e)] += 1;
      } else {
        best = {-1, -1};
        gates = {0, 0};
      }
      append(chosen, best);
      append(weight, gates);
      const double uniform =
          static_cast<double>(random_uniform(run.noise_key(), static_cast<uint32_t>(t), 0, 0));
      const bool stays = !training || uniform < std::min(1.0, 2 * gates[1]);
      if (run.real(t) && !stays) skipped += 1;
      append(sent, {best[0], stays ? best[1] : -1});
    }
    EXPECT_EQ(run.integers(run.routing().chosen), chosen);
    EXPECT_EQ(run.integers(run.routing().expert), sent);
    EXPECT_EQ(run.integers(run.saved().kept), sent);
    // A first choice weighs no more where the second is skipped.
    expect_near(run.numbers(run.routing().weight), weight, "weight");
    // Seconds count before the skip, and a skipped one is no dropped one.
    EXPECT_EQ(run.seen().chosen, counted);
    EXPECT_EQ(run.seen().dropped_by_choice, Numbers({0, 0}));
    EXPECT_EQ(skipped > 0, training);
  }
}

// Landed experts' weights are renormalised over the two, a skipped one's own among them.
TEST(GShard, ReroutesWhatIsNotSkipped) {
  MoeCase moe_case = router_case<GShardRouter>("gshard", GShardRouterOptions());
  moe_case.capacity = {.tokens = 3, .overflow = CapacityRule::Overflow::kReroute};
  RouterRun run(moe_case);
  const Numbers logits = run.gate(0), weight = run.numbers(run.routing().weight);
  const auto chosen = run.integers(run.routing().chosen), landed = run.integers(run.saved().kept);
  int moved = 0, skipped = 0;
  for (size_t t = 0; t < run.tokens(); ++t) {
    if (!run.real(t)) continue;
    const Numbers probs = softmax_of(row_of(logits, run.experts(), t));
    const double gate =
        static_cast<double>(random_uniform(run.noise_key(), static_cast<uint32_t>(t), 0, 0));
    const double p0 = probs[static_cast<size_t>(chosen[2 * t])];
    const double p1 = probs[static_cast<size_t>(chosen[2 * t + 1])];
    const bool skips = gate >= 2 * p1 / (p0 + p1);
    Numbers pair;
    for (size_t k = 0; k < 2; ++k) {
      const int32_t at = k == 1 && skips ? chosen[2 * t + 1] : landed[2 * t + k];
      pair.push_back(at < 0 ? 0.0 : probs[static_cast<size_t>(at)]);
      moved += at != chosen[2 * t + k];
    }
    skipped += skips;
    EXPECT_TRUE(!skips || landed[2 * t + 1] == -1) << t;
    for (size_t k = 0; k < 2; ++k) {
      EXPECT_NEAR(weight[2 * t + k], pair[k] / (pair[0] + pair[1]), kTolerance) << t;
    }
  }
  EXPECT_GT(moved, 0);
  EXPECT_GT(skipped, 0);
}

// Zhou 2022, section 3.2: of each group and expert the min(C, real tokens) best.
TEST(ExpertChoice, EveryExpertTakesItsBestTokens) {
  MoeCase moe_case = router_case<ExpertChoiceRouter>("choice", expert_choice_options(2), 4);
  moe_case.capacity.train_factor = 1.0;  // 2 * 10 / 4 = 5 of a group
  moe_case.capacity.min_tokens = 0;
  RouterRun run(moe_case);
  const Numbers logits = run.gate(0);
  std::vector<int32_t> chosen(run.tokens() * 4, -1);
  Numbers weight(chosen.size());
  for (const auto& tokens : run.groups()) {
    for (size_t e = 0; e < 4; ++e) {
      Numbers probs;
      for (const size_t t : tokens) probs.push_back(softmax_of(row_of(logits, 4, t))[e]);
      for (const int32_t i : best_of(probs, std::min<size_t>(5, tokens.size()))) {
        const size_t t = tokens[static_cast<size_t>(i)];
        chosen[t * 4 + e] = static_cast<int32_t>(e);
        weight[t * 4 + e] = probs[static_cast<size_t>(i)];
      }
    }
  }
  EXPECT_EQ(run.integers(run.routing().chosen), chosen);
  EXPECT_EQ(run.integers(run.saved().kept), chosen);
  expect_near(run.numbers(run.routing().weight), weight, "weight");
  // 8, 4 and 6 real tokens.
  const auto counts = read_back_as<int64_t>(run.rank().ctx(), run.saved().kept_counts);
  EXPECT_EQ(counts, (std::vector<int64_t>{5, 5, 5, 5, 4, 4, 4, 4, 5, 5, 5, 5}));
}

// Clark 2022: columns, then rows, of exp(logits) are brought to their sums again and again.
TEST(Sinkhorn, ChoosesByABalancedAssignment) {
  for (const int64_t top_k : {1, 2}) {
    RouterRun run(router_case<SinkhornRouter>("sinkhorn", sinkhorn_options(top_k, 20), 4));
    const Numbers logits = run.gate(0), scores = run.numbers(run.routing().scores);
    const auto chosen = run.integers(run.routing().chosen);
    const Numbers weight = run.numbers(run.routing().weight);
    const auto choices = static_cast<size_t>(top_k);
    for (const auto& tokens : run.groups()) {
      std::vector<Numbers> rows;
      for (const size_t t : tokens) {
        rows.push_back(row_of(logits, 4, t));
        for (double& number : rows.back()) number = std::exp(number);
      }
      for (int i = 0; i < 20; ++i) {
        for (size_t e = 0; e < 4; ++e) {
          double sum = 0;
          for (const Numbers& row : rows) sum += row[e];
          for (Numbers& row : rows) row[e] *= static_cast<double>(rows.size()) / 4 / sum;
        }
        for (Numbers& row : rows) {
          const double sum = std::accumulate(row.begin(), row.end(), 0.0);
          for (double& number : row) number /= sum;
        }
      }
      Numbers columns(4);
      for (size_t i = 0; i < tokens.size(); ++i) {
        const size_t t = tokens[i];
        const Numbers assigned = row_of(scores, 4, t);
        for (size_t e = 0; e < 4; ++e) {
          EXPECT_NEAR(assigned[e], rows[i][e], 1e-10);
          columns[e] += assigned[e];
        }
        EXPECT_NEAR(std::accumulate(assigned.begin(), assigned.end(), 0.0), 1, 1e-13);
        const std::vector<int32_t> best = best_of(rows[i], choices);
        const Numbers row = row_of(logits, 4, t), probs = softmax_of(row);
        for (size_t k = 0; k < choices; ++k) {
          const auto e = static_cast<size_t>(best[k]);
          EXPECT_EQ(chosen[t * choices + k], best[k]);
          EXPECT_NEAR(weight[t * choices + k], top_k == 1 ? 1 / (1 + std::exp(-row[e])) : probs[e],
                      kTolerance);
        }
      }
      for (const double column : columns) {
        EXPECT_NEAR(column, static_cast<double>(tokens.size()) / 4, 1e-2);
      }
    }
  }
}

TEST(Sinkhorn, TakesTheBestLogitsOutsideTraining) {
  MoeCase moe_case = router_case<SinkhornRouter>("sinkhorn", sinkhorn_options(1, 8));
  RouterRun balanced(moe_case);
  moe_case.training = false;
  RouterRun plain(moe_case);
  const Numbers logits = plain.gate(0);
  const auto chosen = plain.integers(plain.routing().chosen);
  for (size_t t = 0; t < plain.tokens(); ++t) {
    const int32_t best = best_of(row_of(logits, plain.experts(), t), 1).front();
    EXPECT_EQ(chosen[t], plain.real(t) ? best : -1);
  }
  EXPECT_NE(balanced.integers(balanced.routing().chosen), chosen);
}

// Shazeer 2017, appendix B: three groups of two experts, two of the groups, one or two of each.
TEST(Hierarchical, WeighsByTheProductOfTwoGates) {
  for (const bool normalize : {true, false}) {
    for (const size_t each : {1, 2}) {
      MoeCase moe_case = router_case<HierarchicalRouter>(
          "two_levels", hierarchical_options(3, 2, 2 * static_cast<int64_t>(each), normalize));
      moe_case.losses = {.load_balance = 0.3};
      RouterRun run(moe_case);
      const Numbers of_experts = run.gate(0), of_groups = run.gate(1);
      std::vector<int32_t> chosen;
      Numbers weight, joint;
      for (size_t t = 0; t < run.tokens(); ++t) {
        const Numbers outer = softmax_of(row_of(of_groups, 3, t));
        std::vector<Numbers> inner;
        for (size_t g = 0; g < 3; ++g) {
          inner.push_back(softmax_of(row_of(of_experts, 2, t * 3 + g)));
          for (const double p : inner.back()) joint.push_back(p * outer[g]);
        }
        const std::vector<int32_t> groups = best_of(outer, 2);
        double outer_sum = 0;
        for (const int32_t g : groups) outer_sum += outer[static_cast<size_t>(g)];
        for (const int32_t of_group : groups) {
          const auto g = static_cast<size_t>(of_group);
          const std::vector<int32_t> best = best_of(inner[g], each);
          double inner_sum = 0;
          for (const int32_t e : best) inner_sum += inner[g][static_cast<size_t>(e)];
          for (const int32_t e : best) {
            const double product = outer[g] * inner[g][static_cast<size_t>(e)];
            chosen.push_back(run.real(t) ? 2 * of_group + e : -1);
            weight.push_back(!run.real(t) ? 0
                             : normalize  ? product / (outer_sum * inner_sum)
                                          : product);
          }
        }
      }
      EXPECT_EQ(run.integers(run.routing().chosen), chosen);
      expect_near(run.numbers(run.routing().weight), weight, "weight");
      expect_near(run.numbers(run.routing().probs), joint, "probs");

      // Half on the groups, half on all experts.
      double balance = 0;
      const size_t choices = 2 * each;
      for (const auto& tokens : run.groups()) {
        Numbers share(6), mean(6);
        const auto count = static_cast<double>(tokens.size());
        for (const size_t t : tokens) {
          for (size_t k = 0; k < choices; ++k) {
            share[static_cast<size_t>(chosen[t * choices + k])] +=
                1 / (count * static_cast<double>(choices));
          }
          for (size_t e = 0; e < 6; ++e) mean[e] += joint[t * 6 + e] / count;
        }
        for (size_t e = 0; e < 6; ++e) balance += 0.3 / 3 * 0.5 * 6 * share[e] * mean[e];
        for (size_t g = 0; g < 6; g += 2) {
          balance += 0.3 / 3 * 0.5 * 3 * (share[g] + share[g + 1]) * (mean[g] + mean[g + 1]);
        }
      }
      EXPECT_NEAR(run.seen().load_balance, balance, 1e-13);
    }
  }
}

// Puigcerver 2023, eq. 1 to 3, with one more term: padding has no part in slots.
TEST(Soft, MixesTokensIntoSlotsAndBack) {
  RouterRun run(router_case<SoftRouter>("soft", SoftRouterOptions(), 3));
  constexpr size_t kSlots = 6, kLength = 5, kWidth = 4;  // two slots for each of three experts
  const Numbers logits = run.gate(0), x = run.numbers(run.rank().x());
  const Numbers results = run.numbers(run.saved().results);
  const auto& routing = static_cast<const SlotRouting&>(run.routing());
  Numbers slots, y;
  for (size_t b = 0; b < 6; ++b) {
    for (size_t n = 0; n < kSlots; ++n) {
      double sum = 0, shares = 0;
      Numbers slot(kWidth);
      for (size_t t = b * kLength; t < (b + 1) * kLength; ++t) {
        if (run.real(t)) sum += std::exp(logits[t * kSlots + n]);
      }
      for (size_t t = b * kLength; t < (b + 1) * kLength; ++t) {
        const double share = run.real(t) ? std::exp(logits[t * kSlots + n]) / sum : 0;
        shares += share;
        for (size_t d = 0; d < kWidth; ++d) slot[d] += share * x[t * kWidth + d];
      }
      EXPECT_NEAR(shares, b == 3 ? 0 : 1, kTolerance);  // sequence 3 has no real token
      append(slots, slot);
    }
    for (size_t t = b * kLength; t < (b + 1) * kLength; ++t) {
      const Numbers shares = softmax_of(row_of(logits, kSlots, t));
      Numbers output(kWidth);
      for (size_t n = 0; n < kSlots; ++n) {
        for (size_t d = 0; d < kWidth; ++d) {
          output[d] += shares[n] * results[(b * kSlots + n) * kWidth + d];
        }
      }
      append(y, output);
    }
  }
  expect_near(run.numbers(routing.slots), slots, "slots");
  expect_near(run.y(), y, "y");
  const auto expert = run.integers(routing.expert_of_slot);
  for (size_t i = 0; i < expert.size(); ++i) {
    EXPECT_EQ(expert[i], static_cast<int32_t>(i % kSlots / 2));
  }
  EXPECT_EQ(run.seen().rows_computed, 36);
  for (const double weight : run.numbers(run.routing().weight)) EXPECT_GT(weight, 0);
  const Numbers probs = run.numbers(run.routing().probs);
  EXPECT_NEAR(std::accumulate(probs.begin(), probs.end(), 0.0), 30, 1e-12);
}

// An expert's rows, through its two layers, are what its slots become.
TEST(Soft, GivesSlotsToTheirExperts) {
  MoeCase moe_case = router_case<SoftRouter>("soft", SoftRouterOptions(), 3);
  moe_case.activation = Activation::kRelu;
  RouterRun run(moe_case);
  const Numbers wi = run.numbers(run.rank().layer().weights()[1]->master());
  const Numbers wo = run.numbers(run.rank().layer().weights()[2]->master());
  const auto& routing = static_cast<const SlotRouting&>(run.routing());
  const Numbers slots = run.numbers(routing.slots), results = run.numbers(run.saved().results);
  for (size_t i = 0; i < slots.size() / 4; ++i) {
    const size_t e = i % 6 / 2;
    Numbers result(4);
    for (size_t f = 0; f < 6; ++f) {
      const double inner =
          std::inner_product(&slots[i * 4], &slots[i * 4] + 4, &wi[(e * 6 + f) * 4], 0.0);
      for (size_t d = 0; d < 4; ++d) result[d] += std::max(inner, 0.0) * wo[(e * 4 + d) * 6 + f];
    }
    expect_near(row_of(results, 4, i), result, "slot " + std::to_string(i));
  }
}

TEST(Hash, SendsAnIdToTheSameExpertAlways) {
  RouterRun run(router_case<HashRouter>("hash", HashRouterOptions(), 4));
  const std::vector<int32_t> table = experts_by_hash(50, 4, layer_id(StackKind::kEncoder, 1));
  const auto ids = read_back_as<int32_t>(run.rank().ctx(), run.rank().rows().ids);
  const auto chosen = run.integers(run.routing().chosen);
  const Numbers weight = run.numbers(run.routing().weight);
  const Numbers probs = run.numbers(run.routing().probs);
  for (size_t t = 0; t < run.tokens(); ++t) {
    EXPECT_EQ(chosen[t], run.real(t) ? table[static_cast<size_t>(ids[t])] : -1);
    EXPECT_EQ(weight[t], run.real(t) ? 1 : 0);
    for (size_t e = 0; e < 4; ++e) {
      EXPECT_EQ(probs[t * 4 + e], static_cast<int32_t>(e) == chosen[t] ? 1 : 0);
    }
  }
  EXPECT_TRUE(run.rank().layer().weights()[0]->is_expert());  // none of the router
  EXPECT_EQ(run.seen().entropy, 0);
}

// Part of what a checkpoint means: never to change.
TEST(Hash, IsFixed) {
  const std::vector<int32_t> table = experts_by_hash(30'000, 8, 3);
  EXPECT_EQ(std::vector<int32_t>(table.begin(), table.begin() + 8),
            (std::vector<int32_t>{2, 6, 5, 7, 0, 6, 0, 6}));
  EXPECT_NE(table, experts_by_hash(30'000, 8, 4));
  std::vector<int> load(8);
  for (const int32_t expert : table) load[static_cast<size_t>(expert)] += 1;
  for (const int count : load) EXPECT_NEAR(count, 3750, 5 * std::sqrt(3750.0));
}

class HashFile : public testing::Test {
 protected:
  std::string file(const std::string& text) {
    const std::string path = (directory_.path() / "frequencies").string();
    std::ofstream(path) << text;
    return path;
  }

 private:
  TemporaryDirectory directory_;
};

// 4: 10 to expert 0; 7: 6 to 1; 0: 5 to 1; 2: 5 to 0; 9: 1 to 1; 1 by hash.
TEST_F(HashFile, BalancesIdsByFrequency) {
  const std::vector<int32_t> table =
      experts_by_frequency(file("7 6\n0 5\n2 5\n4 10\n9 1\n"), 10, 2, 3);
  EXPECT_EQ(table[4], 0);
  EXPECT_EQ(table[7], 1);
  EXPECT_EQ(table[0], 1);
  EXPECT_EQ(table[2], 0);
  EXPECT_EQ(table[9], 1);
  EXPECT_EQ(table[1], experts_by_hash(10, 2, 3)[1]);
}

TEST_F(HashFile, RefusesWhatIsNoFrequency) {
  const auto refusal = [&](const std::string& text) {
    try {
      experts_by_frequency(file(text), 10, 2, 3);
    } catch (const InputError& error) {
      return error.summary() + " | " + error.where().substr(error.where().rfind('/') + 1);
    }
    return std::string("none");
  };
  EXPECT_EQ(refusal("1 2\nx 3\n"), "not an id and a count: 'x 3' | frequencies:2");
  EXPECT_EQ(refusal("1 2 3\n"), "not an id and a count: '1 2 3' | frequencies:1");
  EXPECT_EQ(refusal("10 3\n"), "token id 10 isn't in use | frequencies:1");
  EXPECT_EQ(refusal("1 -3\n"), "a count of -3 | frequencies:1");
  EXPECT_EQ(refusal("1 3\n1 4\n"), "token id 1 for the second time | frequencies:2");
  EXPECT_THROW(experts_by_frequency("no/such/file", 10, 2, 3), InputError);
}

}  // namespace
}  // namespace switchyard::test
