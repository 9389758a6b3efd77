// Which tensor of ours is which of Hugging Face's: the one table of names, for reading, writing and
// tests alike. Matrices are [out, in] on both sides, so nothing is ever transposed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conversion/family.h"

namespace switchyard {

// What of a family decides its names.
struct Dialect {
  Family family = Family::kSwitchTransformers;
  bool gated = false;  // T5 1.1: wi_0 and wi_1
  bool tied = false;   // embedding and head are one
};

// "encoder.block.1.moe.expert.2.wi" is
// "encoder.block.1.layer.1.mlp.experts.expert_2.wi.weight" in switch_transformers.
// SWITCHYARD_CHECKs that the family has such a tensor.
std::string hugging_face_name(const Dialect& dialect, const std::string& name);

// Where a tensor of ours may lie in Hugging Face's files: whole, or as one of equal parts, one
// behind the other.
struct Place {
  std::string name;
  std::vector<uint64_t> shape;  // of the tensor that it is the whole or a part of
  uint64_t part = 0, parts = 1;
};
// Those of a tensor, the one that is written first. Besides it there are the names of transformers
// 5, whose experts are stacked: gate_up_proj [E, 2 F, D] holds wg and wi of each, one behind the
// other, down_proj [E, D, F] wo.
//   experts  E of its layer, for a tensor of an expert
std::vector<Place> places_of(const Dialect& dialect, const std::string& name,
                             const std::vector<uint64_t>& shape, int64_t experts);

// A tensor that a file may hold besides: another name of one that is written, with equal bytes, or
// something that transformers doesn't look at either.
struct Spare {
  std::string name;
  std::string equal_to;  // empty: not looked at
  std::string reason;    // for the ledger
};
std::vector<Spare> spares_of(const Dialect& dialect);

}  // namespace switchyard
