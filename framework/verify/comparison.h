// One layout's snapshots against the reference's: what differs by how much, and what differs first.
#pragma once

#include <array>
#include <optional>

#include "config/config.h"
#include "verify/snapshot.h"

namespace switchyard {

// How far a tensor may be from the reference's: max|difference| <= relative * max|reference|,
// updated weights by `of_learning_rate` times the learning rate besides. Numbers that count are
// always equal. See docs/architecture.md, "Layout invariance".
struct Tolerance {
  bool exact = false;  // all bits are equal; the rest has no say
  double relative = 1e-5;
  double of_learning_rate = 0.05;
};
// What layouts of the config must agree to. Throws ConfigError where they can't: experts in slices
// add up rows that are rounded to bfloat16.
Tolerance tolerance_of(const Config& config);

struct Failure {
  Check check = Check::kLoss;
  int64_t step = 0;  // from 1; 0: before the first
  int rank = 0;
  std::string what;  // "gradient of decoder.block.1.moe.router [3, 17] is 0.2, reference 0.1"
};

// "step 2, rank 3", "before the first step, rank 0".
std::string place_of(const Failure& failure);

struct Comparison {
  struct Difference {
    bool exists = false;  // whether the model has such tensors
    bool equal = true;    // bit by bit
    double largest = 0;   // max|difference| / max|reference| of a tensor
  };
  std::array<Difference, kItemGroups> groups;
  int64_t near_ties = 0;           // choices of an expert that were replayed from the reference
  std::optional<Failure> failure;  // the first one

  // Adds what this rank holds of a step.
  //   seen, expected  the same items; expected is whole
  void add(const Snapshot& seen, const Snapshot& expected, const Tolerance& tolerance, int64_t step,
           double learning_rate);
  // Adds that copies of what several ranks hold have the same bits, and that every element is held
  // by some rank. Makes the items whole. Every rank calls it, with the same items.
  //   only  items to look at; none: all
  void add_copies(Collectives& world, Snapshot& seen, int64_t step,
                  std::optional<Check> only = std::nullopt);
  // Makes this of every rank the comparison of all. Every rank calls it.
  void combine(Collectives& world);

 private:
  void fail(size_t item, Failure failure);
  size_t failed_item_ = 0;  // of the failure, in its snapshot
};

}  // namespace switchyard
