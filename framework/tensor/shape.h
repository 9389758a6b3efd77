// Sizes of a tensor's dimensions, outermost first; row-major, at most kMaxRank of them.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

#include "base/check.h"

namespace switchyard {

class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes)
      : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) {
    SWITCHYARD_CHECK(sizes.size() <= kMaxRank, sizes.size(), " dimensions");
    for (int64_t size : sizes) {
      SWITCHYARD_CHECK(size >= 0, "a dimension of ", size);
      sizes_[static_cast<size_t>(rank_++)] = size;
    }
  }

  int rank() const { return rank_; }
  // Negative indices count from the innermost: shape[-1] is the last dimension.
  int64_t operator[](int i) const {
    const int at = i < 0 ? i + rank_ : i;
    SWITCHYARD_CHECK(at >= 0 && at < rank_, "dimension ", i, " of a rank ", rank_, " shape");
    return sizes_[static_cast<size_t>(at)];
  }
  void set(int i, int64_t size) {
    SWITCHYARD_CHECK(i >= 0 && i < rank_ && size >= 0, "dimension ", i, " to ", size);
    sizes_[static_cast<size_t>(i)] = size;
  }
  int64_t elements() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= sizes_[static_cast<size_t>(i)];
    return product;
  }
  bool operator==(const Shape&) const = default;
  std::string text() const;  // "[2, 3]"

 private:
  int rank_ = 0;
  std::array<int64_t, kMaxRank> sizes_{};
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

}  // namespace switchyard
