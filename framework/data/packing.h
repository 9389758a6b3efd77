// Several short samples in one row: which ones, in which order.
//
// T5's greedy packing: samples are taken in order and go to the current row as long as both their
// inputs and their targets fit; else a new row is begun. Inputs and targets of a row have the same
// samples. Source: seqio/utils.py, trim_and_pack_dataset.
//
// Rows have to be found by number without those before them, and their number must not change from
// epoch to epoch, since a run's sequences are numbered throughout. So packing is decided once, over
// the examples in an order keyed by the seed; an epoch shuffles the finished rows. That examples
// share a row in every epoch has no effect: segments don't see each other, and corruption is drawn
// anew. It costs 8 bytes a row, and one look at every example's length at the start.
#pragma once

#include "data/example_source.h"
#include "data/permutation.h"

namespace switchyard {

class Packing {
 public:
  // Samples must not be wider than a row.
  Packing(const ExampleSource& examples, int inputs_width, int targets_width, uint64_t seed);

  int64_t rows() const { return static_cast<int64_t>(first_.size()) - 1; }
  // The positions [begin, end) in the order that make up a row.
  int64_t begin(int64_t row) const { return first_[static_cast<size_t>(row)]; }
  int64_t end(int64_t row) const { return first_[static_cast<size_t>(row) + 1]; }
  // The example at a position of the order.
  int64_t example(int64_t position) const { return order_(position); }

 private:
  Permutation order_;
  std::vector<int64_t> first_{0};  // [rows + 1]
};

}  // namespace switchyard
