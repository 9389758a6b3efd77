// Gradients of dense and expert weights over ranks and replicas: every contribution is summed once,
// every parameter counts once in the norm.
#include "optim/weight_replicas.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "backends/reference/reference_kernels.h"
#include "collectives/threaded.h"
#include "support/backends.h"
#include "support/layer_rank.h"

namespace switchyard::test {
namespace {

constexpr int64_t kExperts = 5, kOut = 2, kIn = 3;

// What rank `rank` of `ranks` contributes to a dense weight, and its expert group to an expert.
Numbers contribution(const std::string& name, int contributor, const Shape& shape) {
  return normal_numbers(name + " by " + std::to_string(contributor), shape);
}

Numbers summed(const std::string& name, int contributors, const Shape& shape, int left_out = -1) {
  Numbers sum(static_cast<size_t>(shape.elements()));
  for (int contributor = 0; contributor < contributors; ++contributor) {
    if (contributor == left_out) continue;
    const Numbers part = contribution(name, contributor, shape);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return sum;
}

double squares(const Numbers& numbers) {
  double sum = 0;
  for (const double x : numbers) sum += x * x;
  return sum;
}

const Shape kDense{4, 3}, kExpert{kOut, kIn};

class GradientRank {
 public:
  GradientRank(Collectives& world, int group_size, DType dtype, std::unique_ptr<Kernels> kernels)
      : rank_(std::move(kernels), world, group_size),
        dense_("dense", WeightRole::kDense, dtype, kDense, rank_.memory()),
        norm_("norm", WeightRole::kNorm, dtype, {3}, rank_.memory()),
        experts_("expert.*.wi", WeightRole::kExpert, dtype, {held().count, kOut, kIn},
                 rank_.memory(), held()) {
    write(dense_, contribution("dense", world.rank(), kDense), dense_.gradient());
    // Rank 0 has nothing for this one: what stands there from the last step must not count.
    if (world.rank() == 0) {
      set_numbers(ctx(), Numbers(3, std::numeric_limits<double>::quiet_NaN()), norm_.gradient());
    } else {
      write(norm_, contribution("norm", world.rank(), {3}), norm_.gradient());
    }
    for (int64_t e = 0; e < held().count; ++e) {
      write(experts_,
            contribution(experts_.name_of_expert(e), rank_.groups().replica->rank(), kExpert),
            experts_.gradient().rows(e, e + 1));
    }
  }

  std::vector<Weight*> weights() { return {&dense_, &experts_, &norm_}; }
  LayerContext& ctx() { return rank_.ctx(); }
  const Groups& groups() { return rank_.groups(); }

  // Of the weights whose gradient this rank has.
  void expect_sums(double tolerance) {
    const int ranks = groups().world->size(), replicas = groups().replica->size();
    if (dense_.gradient_written()) {
      expect_equal(dense_.gradient(), summed("dense", ranks, kDense), tolerance);
    }
    if (norm_.gradient_written()) {
      expect_equal(norm_.gradient(), summed("norm", ranks, {3}, 0), tolerance);
    }
    for (int64_t e = 0; e < held().count && experts_.gradient_written(); ++e) {
      expect_equal(experts_.gradient().rows(e, e + 1),
                   summed(experts_.name_of_expert(e), replicas, kExpert), tolerance);
    }
  }
  double expected_norm() {
    const int ranks = groups().world->size(), replicas = groups().replica->size();
    double sum = squares(summed("dense", ranks, kDense)) + squares(summed("norm", ranks, {3}, 0));
    for (int64_t e = 0; e < kExperts; ++e) {
      sum += squares(summed("expert." + std::to_string(e) + ".wi", replicas, kExpert));
    }
    return std::sqrt(sum);
  }

 private:
  ExpertRange held() const {
    const Collectives& group = *rank_.groups().expert;
    return experts_of_rank(kExperts, group.size(), group.rank());
  }
  void write(Weight& weight, const Numbers& numbers, TensorView gradient) {
    weight.next_gradient_write();
    set_numbers(ctx(), numbers, gradient);
  }
  void expect_equal(TensorView actual, const Numbers& expected, double tolerance) {
    EXPECT_LE(relative_difference(numbers_of(ctx(), actual), expected), tolerance);
  }

  LayerRank rank_;
  Weight dense_, norm_, experts_;
};

constexpr std::pair<int, int> kLayouts[] = {{1, 1}, {2, 1}, {2, 2}, {3, 3}, {4, 2},
                                            {4, 4}, {6, 2}, {6, 3}, {8, 8}, {8, 4}};

// One owner of every weight among its holders has the sum and brings the update to the others.
void check_owners(GradientRank& rank, const WeightReplicas& replicas, double tolerance,
                  std::vector<std::set<std::string>>& owned) {
  std::set<std::string>& mine = owned[static_cast<size_t>(rank.groups().world->rank())];
  const std::vector<Weight*> here = replicas.updated_here();
  for (Weight* weight : rank.weights()) {
    const bool is_mine = std::find(here.begin(), here.end(), weight) != here.end();
    EXPECT_EQ(weight->gradient_written(), is_mine) << weight->name();
    if (is_mine) mine.insert(weight->name());
    const int holder =
        (weight->is_expert() ? rank.groups().replica.get() : rank.groups().world)->rank();
    const Numbers updated(static_cast<size_t>(weight->shape().elements()), is_mine ? 7.0 : holder);
    set_numbers(rank.ctx(), updated, weight->master());
  }
  rank.expect_sums(tolerance);
  std::vector<uint64_t> versions;
  for (const Weight* weight : rank.weights()) versions.push_back(weight->version());
  replicas.share_updates(rank.ctx());
  for (size_t i = 0; i < versions.size(); ++i) {
    const Weight& weight = *rank.weights()[i];
    for (const double number : numbers_of(rank.ctx(), weight.master())) EXPECT_EQ(number, 7.0);
    EXPECT_EQ(weight.version() == versions[i], mine.contains(weight.name())) << weight.name();
  }
}

void check_sharded_layout(int ranks, int group_size) {
  SCOPED_TRACE("sharded on " + std::to_string(ranks) + "x" + std::to_string(group_size));
  std::vector<double> norms(static_cast<size_t>(ranks));
  std::vector<std::set<std::string>> owned(static_cast<size_t>(ranks));
  run_threaded_ranks(ranks, [&](Collectives& world) {
    GradientRank rank(world, group_size, DType::kFloat64, make_reference_kernels());
    const std::vector<Weight*> weights = rank.weights();
    const WeightReplicas replicas(rank.groups(), weights, /*sharded=*/true);
    replicas.reduce_gradients(rank.ctx());
    const double norm = replicas.gradient_norm(rank.ctx());
    norms[static_cast<size_t>(world.rank())] = norm;
    EXPECT_NEAR(norm, rank.expected_norm(), 1e-13 * norm);
    check_owners(rank, replicas, 1e-13, owned);
  });
  for (const double norm : norms) EXPECT_EQ(norm, norms[0]);
  int experts = 0, dense = 0;
  for (const std::set<std::string>& names : owned) {
    experts += static_cast<int>(names.count("expert.*.wi"));
    dense += static_cast<int>(names.count("dense") + names.count("norm"));
    // With enough ranks nobody has two of three.
    EXPECT_LE(names.size(), ranks / group_size >= 3 ? 1u : 3u);
  }
  EXPECT_EQ(experts, group_size);  // one replica of each place
  EXPECT_EQ(dense, 2);
}

void check_layout(int ranks, int group_size, DType dtype, const BackendUnderTest& backend,
                  double tolerance) {
  SCOPED_TRACE(backend.name + " on " + std::to_string(ranks) + "x" + std::to_string(group_size));
  std::vector<double> norms(static_cast<size_t>(ranks));
  run_threaded_ranks(ranks, [&](Collectives& world) {
    GradientRank rank(world, group_size, dtype, backend.make());
    const std::vector<Weight*> weights = rank.weights();
    const WeightReplicas replicas(rank.groups(), weights);
    replicas.reduce_gradients(rank.ctx());
    rank.expect_sums(tolerance);
    const double norm = replicas.gradient_norm(rank.ctx());
    norms[static_cast<size_t>(world.rank())] = norm;
    EXPECT_NEAR(norm, rank.expected_norm(), tolerance * norm);
  });
  for (const double norm : norms) EXPECT_EQ(norm, norms[0]);  // the same bits everywhere
}

TEST(Gradients, AreSummedOnceInEveryLayout) {
  const BackendUnderTest reference{.name = "reference", .make = make_reference_kernels};
  for (const auto& [ranks, group_size] : kLayouts) {
    check_layout(ranks, group_size, DType::kFloat64, reference, 1e-13);
  }
}

TEST(Gradients, AreSummedOnceInFloat32OnEveryBackend) {
  for (const BackendUnderTest& backend : backends_under_test()) {
    if (!backend.usable) continue;
    for (const auto& [ranks, group_size] : kLayouts) {
      check_layout(ranks, group_size, DType::kFloat32, backend, 1e-6);
    }
  }
}

TEST(Gradients, AreSummedAtOneOwnerWhereUpdatesAreSharded) {
  for (const auto& [ranks, group_size] : kLayouts) check_sharded_layout(ranks, group_size);
}

TEST(Gradients, OfNoWeightsHaveNorm0) {
  OnlyRank rank(make_reference_kernels());
  EXPECT_EQ(WeightReplicas(rank.rank().groups(), {}).gradient_norm(rank.ctx()), 0.0);
}

TEST(ClipFactor, BringsLargeNormsDownAndLeavesSmallOnes) {
  EXPECT_EQ(clip_factor(0.0, 1.0), 1.0);
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_EQ(clip_factor(1.0, 1.0), 1.0);
  EXPECT_EQ(clip_factor(4.0, 1.0), 0.25);
  EXPECT_EQ(clip_factor(3.0, 1.5), 0.5);
}

}  // namespace
}  // namespace switchyard::test
