// Counts the floating-point operations of the matrix products that operations execute. Nothing else
// counts: no look-ups, norms, activations, softmax or updates.
#pragma once

#include <cstdint>

namespace switchyard {

class FlopCounter {
 public:
  // One product [m, k] x [k, n]: a multiplication and an addition for each of its m n k terms.
  void add_product(int64_t m, int64_t n, int64_t k) { count_ += 2 * m * n * k; }
  int64_t count() const { return count_; }
  void clear() { count_ = 0; }

 private:
  int64_t count_ = 0;
};

}  // namespace switchyard
