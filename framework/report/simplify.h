// Fewer points for the same picture of a curve.
#pragma once

#include <cstddef>
#include <vector>

namespace switchyard {

struct Point {
  double x = 0, y = 0;
};

// Indices of the points to keep, ascending, the first and the last among them. Ramer, Douglas and
// Peucker's algorithm, largest deviation first: stops when no left-out point lies further than
// `tolerance` from the drawn line, or when `most` points (at least 2) are kept. Of more than 20,000
// points only the lowest and highest of equal spans are looked at. x ascends.
std::vector<size_t> simplify(const std::vector<Point>& points, double tolerance, size_t most);

}  // namespace switchyard
