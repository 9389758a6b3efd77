// The tensors of a checkpoint under their global names, and which rank writes which: equal on every
// rank.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace switchyard {

struct GlobalTensor {
  std::string name;  // "decoder.block.3.moe.expert.17.wi", of the optimizer: "<weight>/adamw.first"
  TensorPart part = TensorPart::kModel;
  DType dtype = DType::kFloat32;
  Shape shape;  // of the whole tensor
  const Weight* weight = nullptr;
  int64_t expert = -1;  // its global number; -1 for a dense weight
  bool held = false;    // on this rank, or a slice of it
  TensorView value;     // where it lies, if held; of a sliced tensor this rank's slice
  ElementRuns runs;     // where the elements of `value`, of this rank's slice, lie in the tensor
  bool sliced = false;  // whether each rank of Groups::tensor has another part
  // By rank of the world, whether it lists this state; empty: every rank does.
  std::vector<bool> keepers = {};
};

// Of every weight and listed state, all experts of all ranks. The same on every rank that lists the
// same.
std::vector<GlobalTensor> global_tensors(const std::vector<const Weight*>& weights,
                                         const std::vector<OptimizerState>& optimizer);

// The same where ranks may keep the state of some weights only (WeightReplicas): all weights and
// the states that any rank lists, in the same order on every rank. Every rank calls it.
std::vector<GlobalTensor> tensors_of_job(const std::vector<const Weight*>& weights,
                                         const std::vector<OptimizerState>& optimizer,
                                         Collectives& world);

// The rank that writes each tensor, by position in `tensors`. A weight and its state stay together;
// an expert is written by one of the ranks that hold it or a slice of it, the rest by any, all only
// where their state is kept; bytes are balanced.
std::vector<int> owners_of(const std::vector<GlobalTensor>& tensors, const Groups& groups);

}  // namespace switchyard
