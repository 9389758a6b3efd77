// Where an operation of this folder adds the gradient of a weight: to the gradient itself, or,
// where sums are ordered, to a partial that joins the 64-bit sums at the end of each leaf or block.
#pragma once

#include <cmath>
#include <vector>

#include "backends/reference/matrix.h"
#include "ops/exec_context.h"

namespace switchyard::reference {

//   T  the weight's dtype
template <typename T>
class GradientSink {
 public:
  // Zeroes the sink if this is the first gradient of the step.
  //   slices  equal parts of the weight that are summed one by one: its experts, or 1
  GradientSink(ExecContext& ctx, Weight& w, int64_t slices = 1)
      : ordered_(ctx.ordered), weight_(w), slices_(slices) {
    SWITCHYARD_CHECK((ordered_ != nullptr) == w.keeps_ordered_sums(), w.name(),
                     ordered_ ? " keeps no ordered sums" : " keeps ordered sums");
    const bool first = w.next_gradient_write() == Write::kOverwrite;
    if (ordered_ == nullptr) {
      if (first) zero<T>(w.gradient());
      return;
    }
    if (first) zero<int64_t>(w.ordered_sums());
    partial_.assign(static_cast<size_t>(w.shape().elements() / std::max<int64_t>(slices, 1)), T{0});
  }

  // What to add to until the end of the part; [rows, columns] as the weight has them.
  Matrix<T> slice(int64_t number) {
    const Shape& shape = weight_.shape();
    const int64_t columns = shape[-1], elements = shape.elements() / slices_;
    T* data = ordered_ ? partial_.data() : weight_.gradient().data<T>() + number * elements;
    return Matrix<T>(data, elements / columns, columns);
  }
  Matrix<T> whole() { return slice(0); }

  // A leaf or block ends.
  void end_part(int64_t number = 0) {
    if (ordered_ == nullptr) return;
    const float limit = ordered_->limit(weight_);
    int64_t* sums =
        weight_.ordered_sums().data<int64_t>() + number * static_cast<int64_t>(partial_.size());
    for (T& partial : partial_) {
      if (std::abs(partial) < static_cast<T>(limit)) {
        *sums += std::llrint(std::ldexp(static_cast<double>(partial), kOrderedFractionBits));
      } else {
        ++ordered_->refused.data<int64_t>()[0];  // a NaN, too
      }
      ++sums;
      partial = T{0};
    }
  }

 private:
  const OrderedSums* ordered_;
  Weight& weight_;
  int64_t slices_;
  std::vector<T> partial_;
};

// body(begin, end) for every block of kOrderedBlockRows rows of every (expert, leaf) run of [begin,
// end), or once for all where sums are fast.
template <typename Body>
void over_blocks(const ExecContext& ctx, LeafOffsets runs, int64_t begin, int64_t end, Body body) {
  if (ctx.ordered == nullptr) return body(begin, end);
  for (size_t run = 0; run + 1 < runs.size(); ++run) {
    const int64_t run_end = std::min(runs[run + 1], end);
    for (int64_t row = std::max(runs[run], begin); row < run_end; row += kOrderedBlockRows) {
      body(row, std::min(row + kOrderedBlockRows, run_end));
    }
  }
}

}  // namespace switchyard::reference
