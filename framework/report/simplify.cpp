#include "report/simplify.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

namespace switchyard {

namespace {

constexpr size_t kSpans = 10'000;

// All indices, or the lowest and highest point of each of kSpans equal spans.
std::vector<size_t> candidates(const std::vector<Point>& points) {
  std::vector<size_t> chosen;
  if (points.size() <= 2 * kSpans) {
    chosen.resize(points.size());
    std::iota(chosen.begin(), chosen.end(), size_t{0});
    return chosen;
  }
  chosen.push_back(0);
  const auto lower = [](const Point& a, const Point& b) { return a.y < b.y; };
  for (size_t span = 0; span < kSpans; ++span) {
    const auto begin = points.begin() + static_cast<ptrdiff_t>(span * points.size() / kSpans);
    const auto end = points.begin() + static_cast<ptrdiff_t>((span + 1) * points.size() / kSpans);
    const auto [low, high] = std::minmax_element(begin, end, lower);
    for (const auto& found : {std::min(low, high), std::max(low, high)}) {
      const auto index = static_cast<size_t>(found - points.begin());
      if (index > chosen.back()) chosen.push_back(index);
    }
  }
  if (chosen.back() != points.size() - 1) chosen.push_back(points.size() - 1);
  return chosen;
}

// The point furthest from the line through the ends of a stretch.
struct Stretch {
  double deviation = 0;
  size_t begin = 0, furthest = 0, end = 0;  // into the candidates
  bool operator<(const Stretch& other) const { return deviation < other.deviation; }
};

double distance(const Point& p, const Point& a, const Point& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length = std::hypot(dx, dy);
  if (length == 0) return std::hypot(p.x - a.x, p.y - a.y);
  return std::abs(dx * (p.y - a.y) - dy * (p.x - a.x)) / length;
}

Stretch stretch(const std::vector<Point>& points, const std::vector<size_t>& chosen, size_t begin,
                size_t end) {
  Stretch found{.begin = begin, .furthest = begin, .end = end};
  for (size_t i = begin + 1; i < end; ++i) {
    const double d = distance(points[chosen[i]], points[chosen[begin]], points[chosen[end]]);
    if (d > found.deviation) found.deviation = d, found.furthest = i;
  }
  return found;
}

}  // namespace

std::vector<size_t> simplify(const std::vector<Point>& points, double tolerance, size_t most) {
  const std::vector<size_t> chosen = candidates(points);
  if (chosen.size() <= 2) return chosen;
  std::vector<size_t> kept = {0, chosen.size() - 1};
  std::priority_queue<Stretch> open;
  open.push(stretch(points, chosen, 0, chosen.size() - 1));
  while (kept.size() < most && open.top().deviation > tolerance) {
    const Stretch widest = open.top();
    open.pop();
    kept.push_back(widest.furthest);
    open.push(stretch(points, chosen, widest.begin, widest.furthest));
    open.push(stretch(points, chosen, widest.furthest, widest.end));
  }
  std::sort(kept.begin(), kept.end());
  for (size_t& index : kept) index = chosen[index];
  return kept;
}

}  // namespace switchyard
