// A parameter: the master copy that the optimizer updates, the sink that its gradient is added to,
// and the backend's compute forms of it (packed, transposed, bf16), stamped with the version they
// came from. A parameter used in two places (tied head, shared position bias) is one Weight with
// one sink.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace switchyard {

// What a parameter is, for initialisation, parameter groups and reports. A balance bias isn't
// trained: its router sets it (see Router::balance).
enum class WeightRole : uint8_t {
  kDense,
  kExpert,
  kRouter,
  kNorm,
  kEmbedding,
  kPositionBias,
  kBalanceBias
};

// Whether a result replaces what stood there or is added to it.
enum class Write : uint8_t { kOverwrite, kAccumulate };

// Backend-owned forms of a weight; only the backend that made them looks inside.
class ComputeForms {
 public:
  virtual ~ComputeForms() = default;
};

// Which experts of the layer a stacked expert weight holds: [first, first + count) of `total`.
struct ExpertRange {
  int64_t first = 0, count = 0, total = 0;
};

// Which part of one dimension of the whole tensor a weight holds: [begin, begin + shape()[axis]) of
// `total`. A total of 0: all of it.
struct WeightSlice {
  int axis = 0;  // of shape()
  int64_t begin = 0, total = 0;
};

// Where elements lie in a larger row-major tensor: `count` runs of `length` consecutive ones, run i
// starting there at first + i * stride and here at i * length.
struct ElementRuns {
  int64_t count = 0, length = 0, first = 0, stride = 0;
};

class Weight {
 public:
  //   name     global and layout-free; a stacked expert weight carries '*' where the expert's
  //   number goes:
  //            "encoder.block.1.moe.expert.*.wi"
  //   shape    on this rank; a stacked expert weight is [count, out, in], a dense one [out, in]
  //   dtype    float32, or float64 in float64 runs
  //   experts  for WeightRole::kExpert
  //   slice    for an expert weight of which this rank holds a part of every expert
  Weight(std::string name, WeightRole role, DType dtype, const Shape& shape, Memory& memory,
         ExpertRange experts = {}, WeightSlice slice = {});

  const std::string& name() const { return name_; }
  WeightRole role() const { return role_; }
  bool is_expert() const { return role_ == WeightRole::kExpert; }
  // Whether it has gradients, which the optimizer follows.
  bool is_trained() const { return role_ != WeightRole::kBalanceBias; }
  const ExpertRange& experts() const { return experts_; }
  const WeightSlice& slice() const { return slice_; }
  bool is_sliced() const { return slice_.total > 0; }
  const Shape& shape() const { return master_.shape(); }
  // shape() with the sliced dimension as long as it is over all slices.
  Shape whole_shape() const;
  // Where the elements of one local expert, or of a dense weight, lie in its whole tensor: what
  // initialisation and checkpoints see under its global name.
  ElementRuns runs() const;
  DType dtype() const { return master_.dtype(); }
  Memory& memory() const { return memory_; }

  TensorView master() const { return master_; }  // dtype(), shape()
  // dtype(), shape(); valid once written this step, with ordered sums once they are converted
  // (gradient_of_sums in ops/update.h).
  TensorView gradient() const { return {gradient_.view().raw(), dtype(), shape()}; }

  // From here on gradients are summed as 64-bit integers (ops/ordered_sums.h), which takes twice
  // the memory. Float32 weights only, before their first gradient.
  void keep_ordered_sums();
  bool keeps_ordered_sums() const { return keeps_ordered_sums_; }
  // int64, shape(): valid once written this step; the gradient takes their place.
  TensorView ordered_sums() const;

  // How many operations of one micro-batch write a gradient for each leaf: more than one where a
  // weight is used in several places.
  int64_t writes_per_leaf() const { return writes_per_leaf_; }
  void set_writes_per_leaf(int64_t writes) { writes_per_leaf_ = writes; }

  // The global name of the i-th local expert's slice ('*' replaced).
  std::string name_of_expert(int64_t local_index) const;

  // How the next gradient must be written: the first of a step overwrites, later ones accumulate.
  // Calling it counts as writing.
  Write next_gradient_write();
  bool gradient_written() const { return gradient_written_; }
  // Forgets the gradient.
  void begin_step() { gradient_written_ = false; }

  // The optimizer, or a loader, changed the master: compute forms are stale.
  void master_changed() { ++version_; }
  uint64_t version() const { return version_; }

  // For the backend: its forms and the version that they show.
  mutable std::unique_ptr<ComputeForms> forms;
  mutable uint64_t forms_version = 0;

 private:
  std::string name_;
  WeightRole role_;
  Memory& memory_;
  ExpertRange experts_;
  WeightSlice slice_;
  Tensor master_, gradient_;
  uint64_t version_ = 1;
  int64_t writes_per_leaf_ = 1;
  bool gradient_written_ = false, keeps_ordered_sums_ = false;
};

}  // namespace switchyard
