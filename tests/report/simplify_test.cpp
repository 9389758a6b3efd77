#include "report/simplify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace switchyard {
namespace {

std::vector<Point> noisy(size_t count) {
  std::vector<Point> points;
  for (size_t i = 0; i < count; ++i) {
    const float noise = random_uniform({.seed = 3}, static_cast<uint32_t>(i), 0, 0);
    points.push_back({static_cast<double>(i), 5 * std::sin(0.01 * static_cast<double>(i)) + noise});
  }
  return points;
}

// How far a left-out point lies from the line drawn between its kept neighbours.
double worst_deviation(const std::vector<Point>& points, const std::vector<size_t>& kept) {
  double worst = 0;
  for (size_t k = 0; k + 1 < kept.size(); ++k) {
    const Point a = points[kept[k]], b = points[kept[k + 1]];
    for (size_t i = kept[k] + 1; i < kept[k + 1]; ++i) {
      const double cross = (b.x - a.x) * (points[i].y - a.y) - (b.y - a.y) * (points[i].x - a.x);
      worst = std::max(worst, std::abs(cross) / std::hypot(b.x - a.x, b.y - a.y));
    }
  }
  return worst;
}

TEST(Simplify, AStraightLineIsItsEnds) {
  std::vector<Point> points;
  for (int i = 0; i < 100; ++i) points.push_back({1.0 * i, 3.0 - 0.5 * i});
  EXPECT_EQ(simplify(points, 1e-9, 50), (std::vector<size_t>{0, 99}));
}

TEST(Simplify, KeepsCorners) {
  const std::vector<Point> points = {{0, 0}, {1, 0}, {2, 0}, {3, 9}, {4, 0}, {5, 0}, {6, 0}};
  EXPECT_EQ(simplify(points, 0.01, 50), (std::vector<size_t>{0, 2, 3, 4, 6}));
}

TEST(Simplify, StaysWithinTheTolerance) {
  const std::vector<Point> points = noisy(3000);
  for (const double tolerance : {0.1, 0.4, 2.0}) {
    const std::vector<size_t> kept = simplify(points, tolerance, points.size());
    EXPECT_LE(worst_deviation(points, kept), tolerance);
    EXPECT_LT(kept.size(), points.size());
  }
}

TEST(Simplify, NeverKeepsMoreThanAskedFor) {
  for (const size_t count : {size_t{1}, size_t{2}, size_t{19'999}, size_t{250'000}}) {
    const std::vector<size_t> kept = simplify(noisy(count), 0, 2000);
    EXPECT_LE(kept.size(), size_t{2000});
    EXPECT_EQ(kept.front(), size_t{0});
    EXPECT_EQ(kept.back(), count - 1);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    EXPECT_EQ(std::adjacent_find(kept.begin(), kept.end()), kept.end());
  }
  EXPECT_TRUE(simplify({}, 0, 2000).empty());
}

TEST(Simplify, OneSpikeAmongAMillionStays) {
  std::vector<Point> points(1'000'000);
  for (size_t i = 0; i < points.size(); ++i) points[i].x = static_cast<double>(i);
  points[123'456].y = 40;
  const std::vector<size_t> kept = simplify(points, 0.5, 2000);
  EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), size_t{123'456}));
  EXPECT_LE(kept.size(), size_t{10});
}

}  // namespace
}  // namespace switchyard
