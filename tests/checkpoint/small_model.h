// A model's weights and optimizer state on one rank, filled with values that depend on a tensor's
// global name and element only: what any layout must find in a checkpoint.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"
#include "tensor/weight.h"

namespace switchyard {

class SmallModel {
 private:
  // Floats of many magnitudes, a function of the tensor's name, the element and the step.
  static auto values(const std::string& name, int64_t step) {
    const Digest digest = digest_of(name + "/" + std::to_string(step));
    uint64_t seed = 0;
    std::memcpy(&seed, digest.bytes.data(), sizeof seed);
    return [seed](int64_t i) {
      uint64_t bits = (seed ^ static_cast<uint64_t>(i)) * 0x9E3779B97F4A7C15u;
      bits = (bits ^ bits >> 29) * 0xBF58476D1CE4E5B9u;
      return std::ldexp(static_cast<double>(bits >> 32), -static_cast<int>(bits % 64));
    };
  }

 public:
  // An embedding, a norm, a router and two layers of experts, 7 and 2 of them.
  SmallModel(const Groups& groups, DType dtype, int64_t width = 4)
      : groups_(groups), dtype_(dtype) {
    add("shared.weight", WeightRole::kEmbedding, {9, width});
    add("encoder.block.0.norm.weight", WeightRole::kNorm, {width});
    add("encoder.block.1.moe.router", WeightRole::kRouter, {7, width});
    add("encoder.block.1.moe.expert.*.wi", WeightRole::kExpert, {7, 6, width}, 1);
    add("decoder.block.1.moe.expert.*.wo", WeightRole::kExpert, {2, width, 6}, 2);
  }

  // Values of the whole model after `step`.
  void fill(int64_t step) {
    for_each([&](const std::string& name, TensorView view, const ElementRuns& runs) {
      write(view, runs, values(name, step));
    });
  }
  void clear() {
    for_each([&](const std::string&, TensorView view, const ElementRuns& runs) {
      write(view, runs, [](int64_t) { return -1.0; });
    });
  }
  // The name of the first tensor that differs from fill(step); empty if none.
  std::string difference(int64_t step) const {
    std::string differs;
    for_each([&](const std::string& name, TensorView view, const ElementRuns& runs) {
      const auto data = std::make_unique<std::byte[]>(view.size_bytes());
      const TensorView expected(data.get(), view.dtype(), view.shape());
      write(expected, runs, values(name, step));
      const bool equal =
          view.size_bytes() == 0 || std::memcmp(view.raw(), expected.raw(), view.size_bytes()) == 0;
      if (!equal && differs.empty()) differs = name;
    });
    return differs;
  }

  std::vector<Weight*> weights() const {
    std::vector<Weight*> all;
    for (const auto& weight : weights_) all.push_back(weight.get());
    return all;
  }
  // Two states shaped as the weight, and of the matrices one that is not.
  const std::vector<OptimizerState>& optimizer() const { return optimizer_; }

  CheckpointState state(int64_t step) const {
    CheckpointState state;
    state.step = step;
    state.tokens_seen = 1000 * step;
    state.sampler_position = 8 * step;
    state.seed = uint64_t{1} << 63;
    state.config_text = "model:\n  width: 4\n";
    state.dataset_hash = digest_of("dataset");
    for (const auto& weight : weights_) state.weights.push_back(weight.get());
    state.optimizer = optimizer_;
    return state;
  }

 private:
  //   axis  which the layout's slices cut
  void add(const std::string& name, WeightRole role, Shape shape, int axis = 0) {
    ExpertRange experts;
    WeightSlice slice;
    if (role == WeightRole::kExpert) {
      experts = experts_of_rank(shape[0], groups_.expert->size(), groups_.expert->rank());
      shape.set(0, experts.count);
      if (const int slices = groups_.tensor->size(); slices > 1) {
        const int64_t width = shape[axis] / slices;
        slice = {axis, groups_.tensor->rank() * width, shape[axis]};
        shape.set(axis, width);
      }
    }
    Memory& memory = HostMemory::instance();
    weights_.push_back(std::make_unique<Weight>(name, role, dtype_, shape, memory, experts, slice));
    for (const char* state : {"adamw.first", "adamw.second"}) {
      states_.emplace_back(dtype_, shape);
      optimizer_.push_back({state, weights_.back().get(), states_.back()});
    }
    if (shape.rank() > 1) {
      states_.emplace_back(DType::kInt64, Shape{shape[0]});
      optimizer_.push_back({"row", weights_.back().get(), states_.back()});
    }
  }

  template <typename Value>
  static void write(TensorView view, const ElementRuns& runs, Value&& value) {
    for (int64_t i = 0; i < view.elements(); ++i) {
      const double number = value(runs.first + i / runs.length * runs.stride + i % runs.length);
      if (view.dtype() == DType::kFloat32) {
        view.data<float>()[i] = static_cast<float>(number);
      } else if (view.dtype() == DType::kFloat64) {
        view.data<double>()[i] = number / 3;
      } else {
        view.data<int64_t>()[i] = static_cast<int64_t>(number);
      }
    }
  }

  // Every tensor here, experts one by one under their global names, and where its elements lie in
  // the whole one.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    const auto visit_all = [&](const Weight& weight, const std::string& suffix, TensorView view) {
      const bool as_weight = view.shape() == weight.shape();
      if (!weight.is_expert()) {
        visit(weight.name() + suffix, view, ElementRuns{1, view.elements(), 0, 0});
        return;
      }
      for (int64_t i = 0; i < weight.experts().count; ++i) {
        const TensorView one = view.rows(i, i + 1);
        const ElementRuns whole{1, one.elements(), 0, 0};
        visit(weight.name_of_expert(i) + suffix, one, as_weight ? weight.runs() : whole);
      }
    };
    for (const auto& weight : weights_) visit_all(*weight, "", weight->master());
    for (const OptimizerState& state : optimizer_) {
      visit_all(*state.weight, "/" + state.name, state.value);
    }
  }

  const Groups& groups_;
  DType dtype_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<Tensor> states_;
  std::vector<OptimizerState> optimizer_;
};

}  // namespace switchyard
