#include "report/specialisation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

// Sums of p log p over the cells and the margins: another way to the same number.
double information_by_entropies(const std::vector<std::vector<int64_t>>& counts) {
  double all = 0, joint = 0, rows = 0, columns = 0;
  for (const auto& row : counts) {
    for (const int64_t count : row) all += static_cast<double>(count);
  }
  const auto term = [&](double count) {
    return count > 0 ? -count / all * std::log(count / all) : 0.0;
  };
  std::vector<double> of_column(counts[0].size());
  for (const auto& row : counts) {
    double of_row = 0;
    for (size_t e = 0; e < row.size(); ++e) {
      const auto count = static_cast<double>(row[e]);
      of_row += count, of_column[e] += count;
      joint += term(count);
    }
    rows += term(of_row);
  }
  for (const double count : of_column) columns += term(count);
  return rows + columns - joint;
}

TEST(Specialisation, EqualsACalculationByHand) {
  // Of 80 tokens, 60 of the first label; expert 0 has 40, expert 1 has 40, expert 2 none.
  const std::vector<std::vector<int64_t>> counts = {{40, 20, 0}, {0, 20, 0}};
  const Specialisation found = specialisation_of(counts);
  EXPECT_THAT(found.label_share, testing::ElementsAre(0.75, 0.25));
  EXPECT_DOUBLE_EQ(found.share_at(0, 1), 0.5);
  EXPECT_DOUBLE_EQ(found.preference_at(0, 0), 4.0 / 3);
  EXPECT_DOUBLE_EQ(found.preference_at(1, 1), 2.0);
  EXPECT_DOUBLE_EQ(found.preference_at(1, 0), 0.0);
  EXPECT_TRUE(std::isnan(found.share_at(0, 2)));
  EXPECT_EQ(found.favourite(0), 0);
  EXPECT_EQ(found.favourite(1), 1);
  EXPECT_EQ(found.favourite(2), -1);
  EXPECT_NEAR(found.information, information_by_entropies(counts), 1e-12);
  EXPECT_NEAR(found.label_entropy, -(0.75 * std::log(0.75) + 0.25 * std::log(0.25)), 1e-12);
}

TEST(Specialisation, ExpertsOfOneLabelEachTellAllAndBlindOnesNothing) {
  EXPECT_DOUBLE_EQ(specialisation_of({{5, 0, 0}, {0, 7, 0}, {0, 0, 9}}).told(), 1.0);
  EXPECT_NEAR(specialisation_of({{10, 20}, {30, 60}}).told(), 0.0, 1e-12);
  EXPECT_EQ(specialisation_of({{4, 4}, {0, 0}}).told(), 0.0);  // one label: nothing to tell
  EXPECT_EQ(specialisation_of({{0, 0}, {0, 0}}).told(), 0.0);
  EXPECT_EQ(specialisation_of({}).experts, 0);
}

TEST(Specialisation, IsALineForEachLayerWithCounts) {
  EvaluationRecord record;
  record.labels = {{.name = "north"}, {.name = "south"}};
  record.layers = {{.name = "encoder.block.1.moe", .load_by_label = {{30, 10}, {0, 40}}},
                   {.name = "decoder.block.1.moe"}};
  EXPECT_THAT(describe_specialisation(record),
              testing::ElementsAre("encoder.block.1.moe: 55 %; 0 north x2.0, 1 south x1.6"));
}

}  // namespace
}  // namespace switchyard
