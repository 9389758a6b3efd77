// What became of every tensor of a conversion.
#pragma once

#include <string>
#include <vector>

#include "conversion/model_source.h"

namespace switchyard {

struct LedgerLine {
  std::string target;  // as it is written
  std::string source;  // what the source calls it
  std::string note;    // "part 3 of 14", "copied", "fresh"; empty: the whole, as it was
  StoredType stored = StoredType::kF32, written = StoredType::kF32;
  std::vector<uint64_t> shape;
  uint64_t size_bytes = 0;  // written
};

struct Ledger {
  std::vector<LedgerLine> lines;  // every tensor written
  std::vector<LeftOut> left_out;  // tensors of the source that aren't
  size_t stored_tensors = 0;      // of the source

  // Throws CheckpointError naming a tensor that is written twice, and one of `source`, all of its
  // tensors, that no line accounts for.
  void check(const ModelSource& source) const;
  // A line for each kind of tensor, its numbers replaced by '*', and one of totals.
  std::string summary() const;
  // A line for each tensor, columns parted by tabs, with a line of their names.
  std::string table() const;
};

}  // namespace switchyard
