// One weight of each role, for tests of optimizers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "support/layer_rank.h"
#include "tensor/weight.h"

namespace switchyard::test {

class RoleWeights {
 public:
  // Normal numbers, the same ones each time.
  RoleWeights(ExecContext& ctx, DType dtype, Memory& memory) : dtype_(dtype), memory_(memory) {
    add("dense", WeightRole::kDense, {3, 4});
    add("expert.*.wi", WeightRole::kExpert, {2, 3, 4}, {1, 2, 5});
    add("no_expert.*.wi", WeightRole::kExpert, {0, 3, 4}, {5, 0, 5});
    add("router", WeightRole::kRouter, {5, 4});
    add("norm", WeightRole::kNorm, {4});
    add("embedding", WeightRole::kEmbedding, {7, 4});
    add("position_bias", WeightRole::kPositionBias, {6, 2});
    set_normal_weights(ctx, pointers(), 1);
  }

  std::vector<Weight*> pointers() const {
    std::vector<Weight*> weights;
    for (const auto& weight : owned_) weights.push_back(weight.get());
    return weights;
  }

 private:
  void add(const std::string& name, WeightRole role, const Shape& shape, ExpertRange experts = {}) {
    owned_.push_back(std::make_unique<Weight>(name, role, dtype_, shape, memory_, experts));
  }

  DType dtype_;
  Memory& memory_;
  std::vector<std::unique_ptr<Weight>> owned_;
};

}  // namespace switchyard::test
