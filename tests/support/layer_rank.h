// One rank as layers see it: kernels, memory, groups, and the context of their calls.
#pragma once

#include <memory>

#include "collectives/single.h"
#include "layers/layer_context.h"
#include "support/op_case.h"

namespace switchyard::test {

class LayerRank {
 public:
  //   ranks_per_node  0: the groups know no nodes
  LayerRank(std::unique_ptr<Kernels> kernels, Collectives& world, int expert_group_size,
            int ranks_per_node = 0, int expert_tensor = 1)
      : kernels_(std::move(kernels)),
        stream_(kernels_->make_stream()),
        scratch_(kernels_->memory()),
        saved_(kernels_->memory()),
        decisions_(kernels_->memory()),
        groups_(make_groups(world, expert_group_size, expert_tensor)),
        ctx_{{*kernels_, *stream_, scratch_}, saved_, decisions_, groups_} {
    if (ranks_per_node > 0) split_by_node(groups_, ranks_per_node);
  }

  LayerContext& ctx() { return ctx_; }
  Memory& memory() { return kernels_->memory(); }
  const Groups& groups() const { return groups_; }
  // Ends a micro-batch: what layers saved is gone.
  void release() {
    saved_.release_all();
    decisions_.release_all();
  }

 private:
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Stream> stream_;
  Arena scratch_, saved_, decisions_;
  Groups groups_;
  LayerContext ctx_;
};

// A job of one rank.
class OnlyRank {
 public:
  explicit OnlyRank(std::unique_ptr<Kernels> kernels)
      : world_(make_single_collectives()), rank_(std::move(kernels), *world_, 1) {}

  LayerContext& ctx() { return rank_.ctx(); }
  Memory& memory() { return rank_.memory(); }
  LayerRank& rank() { return rank_; }
  void release() { rank_.release(); }

 private:
  std::unique_ptr<Collectives> world_;
  LayerRank rank_;
};

// Numbers as a tensor of float32 or float64.
inline void set_numbers(ExecContext& ctx, const Numbers& numbers, TensorView x) {
  if (x.dtype() == DType::kFloat64) {
    upload<double>(ctx, numbers, x);
  } else {
    upload<float>(ctx, std::vector<float>(numbers.begin(), numbers.end()), x);
  }
}

inline Numbers numbers_of(ExecContext& ctx, TensorView x) {
  if (x.dtype() == DType::kFloat64) return read_back_as<double>(ctx, x);
  const auto values = read_back_as<float>(ctx, x);
  return Numbers(values.begin(), values.end());
}

// Of the numbers of a whole tensor, see Weight::runs, those that the weight's slice holds.
inline Numbers held_of(const Weight& weight, const Numbers& whole) {
  const ElementRuns runs = weight.runs();
  Numbers held;
  for (int64_t run = 0; run < runs.count; ++run) {
    const auto first = whole.begin() + runs.first + run * runs.stride;
    held.insert(held.end(), first, first + runs.length);
  }
  return held;
}

// Fills weights with normal numbers times `scale`, a function of the weight's global name alone
// (of each expert's, for stacked ones): initial values of small models are too small for tests.
inline void set_normal_weights(ExecContext& ctx, std::span<Weight* const> weights, double scale) {
  for (Weight* weight : weights) {
    const Shape shape = weight->whole_shape();
    if (weight->is_expert()) {
      for (int64_t e = 0; e < weight->experts().count; ++e) {
        const Numbers whole =
            normal_numbers(weight->name_of_expert(e), {shape[1], shape[2]}, scale);
        set_numbers(ctx, held_of(*weight, whole), weight->master().rows(e, e + 1));
      }
    } else {
      set_numbers(ctx, normal_numbers(weight->name(), shape, scale), weight->master());
    }
    weight->master_changed();
  }
}

}  // namespace switchyard::test
