// RoutingOps, first half: scores, choices, statistics and the gradients of the router's losses.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/cpu/choosing.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

// Group of each row, by walking on from the last one asked for: rows are visited in order.
class GroupWalk {
 public:
  GroupWalk(LeafOffsets groups, int64_t first_row)
      : groups_(groups),
        group_(std::upper_bound(groups.begin() + 1, groups.end() - 1, first_row) - groups.begin() -
               1) {}

  int64_t of(int64_t row) {
    while (row >= groups_[static_cast<size_t>(group_) + 1]) ++group_;
    return group_;
  }

 private:
  LeafOffsets groups_;
  int64_t group_;
};

}  // namespace

void CpuKernels::softmax(ExecContext&, TensorView logits, TensorView probs) {
  const int64_t columns = logits.shape()[1];
  const float* x = logits.data<float>();
  float* p = probs.data<float>();
  team_.ranges(logits.shape()[0], 4 * columns, [&](int64_t begin, int64_t end) {
    float max = 0;
    for (int64_t t = begin; t < end; ++t) {
      loops_.softmax(columns, x + t * columns, p + t * columns, &max);
    }
  });
}

void CpuKernels::softmax_backward(ExecContext&, TensorView probs, TensorView dprobs,
                                  TensorView dlogits, Write write) {
  const int64_t columns = probs.shape()[1];
  const float *p = probs.data<float>(), *dp = dprobs.data<float>();
  float* dx = dlogits.data<float>();
  team_.ranges(probs.shape()[0], 2 * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      loops_.softmax_backward(columns, p + t * columns, dp + t * columns,
                              write == Write::kAccumulate, dx + t * columns);
    }
  });
}

void CpuKernels::choose_top_k(ExecContext&, TensorView scores_view, TensorView mask_view,
                              TensorView expert_view) {
  const int64_t experts = scores_view.shape()[1], choices = expert_view.shape()[1];
  const float* scores = scores_view.data<float>();
  const uint8_t* mask = mask_view.absent() ? nullptr : mask_view.data<uint8_t>();
  int32_t* expert = expert_view.data<int32_t>();
  team_.ranges(scores_view.shape()[0], 2 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (mask != nullptr && mask[t] == 0) {
        std::fill_n(expert + t * choices, choices, -1);
      } else {
        cpu::choose_largest(scores + t * experts, experts, choices, expert + t * choices);
      }
    }
  });
}

void CpuKernels::mask_choices(ExecContext&, TensorView expert_view, TensorView mask_view,
                              TensorView masked_view) {
  const int64_t choices = expert_view.shape()[1];
  const int32_t* expert = expert_view.data<int32_t>();
  const uint8_t* mask = mask_view.data<uint8_t>();
  int32_t* masked = masked_view.data<int32_t>();
  for (int64_t i = 0; i < expert_view.elements(); ++i) {
    masked[i] = mask[i / choices] != 0 ? expert[i] : -1;
  }
}

void CpuKernels::gather_choices(ExecContext&, TensorView probs_view, TensorView expert_view,
                                TensorView weight_view) {
  const int64_t experts = probs_view.shape()[1], choices = expert_view.shape()[1];
  const float* probs = probs_view.data<float>();
  const int32_t* expert = expert_view.data<int32_t>();
  float* weight = weight_view.data<float>();
  team_.ranges(expert_view.elements(), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      weight[i] = expert[i] < 0 ? 0.0f : probs[i / choices * experts + expert[i]];
    }
  });
}

void CpuKernels::gather_choices_backward(ExecContext&, TensorView expert_view,
                                         TensorView dweight_view, TensorView dprobs_view) {
  const int64_t experts = dprobs_view.shape()[1], choices = expert_view.shape()[1];
  const int32_t* expert = expert_view.data<int32_t>();
  const float* dweight = dweight_view.data<float>();
  float* dprobs = dprobs_view.data<float>();
  team_.ranges(expert_view.shape()[0], 2 * choices, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * choices; i < end * choices; ++i) {
      if (expert[i] >= 0) dprobs[i / choices * experts + expert[i]] += dweight[i];
    }
  });
}

namespace {

class RealTokens {
 public:
  explicit RealTokens(TensorView real) : real_(real.absent() ? nullptr : real.data<uint8_t>()) {}
  bool operator()(int64_t t) const { return real_ == nullptr || real_[t] != 0; }

 private:
  const uint8_t* real_;
};

// What a token adds to its group's means.
struct TokenStatistics {
  double square_lse, entropy, top_probability;
};

//   logits  null: no logits
TokenStatistics statistics_of(const float* logits, const float* probs, int64_t experts,
                              const cpu::VectorLoops& loops) {
  double lse = 0;
  if (logits != nullptr) {
    float max = 0;
    const float sum = loops.exp_sum(experts, logits, nullptr, &max);
    lse = static_cast<double>(max + std::log(sum));
  }
  double entropy = 0, top = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const double p = static_cast<double>(probs[e]);
    if (p > 0) entropy -= p * static_cast<double>(std::log(probs[e]));
    top = std::max(top, p);
  }
  return {lse * lse, entropy, top};
}

}  // namespace

void CpuKernels::routing_statistics(ExecContext& ctx, TensorView logits_view, TensorView probs_view,
                                    TensorView expert_view, TensorView real_view,
                                    LeafOffsets groups, const RoutingStatistics& statistics) {
  const int64_t tokens = probs_view.shape()[0], experts = probs_view.shape()[1];
  const int64_t choices = expert_view.shape()[1];
  const float* logits = logits_view.absent() ? nullptr : logits_view.data<float>();
  const float* probs = probs_view.data<float>();
  const RealTokens is_real(real_view);
  const int32_t* expert = expert_view.data<int32_t>();
  const ScratchScope scope(ctx.scratch);
  auto* of_token =
      static_cast<TokenStatistics*>(ctx.scratch.allocate(DType::kFloat64, {tokens, 3}).raw());
  team_.ranges(tokens, 16 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (!is_real(t)) continue;
      of_token[t] = statistics_of(logits == nullptr ? nullptr : logits + t * experts,
                                  probs + t * experts, experts, loops_);
    }
  });
  int64_t* chosen = statistics.chosen.data<int64_t>();
  double* probability = statistics.mean_probability.data<double>();
  const auto sum_group = [&](int64_t g) {
    int64_t* group_chosen = chosen + g * experts;
    double* group_probability = probability + g * experts;
    std::fill_n(group_chosen, experts, 0);
    std::fill_n(group_probability, experts, 0.0);
    TokenStatistics sums{0, 0, 0};
    int64_t real = 0;
    for (int64_t t = groups[static_cast<size_t>(g)]; t < groups[static_cast<size_t>(g) + 1]; ++t) {
      if (!is_real(t)) continue;
      ++real;
      for (int64_t k = 0; k < choices; ++k) {
        if (expert[t * choices + k] >= 0) ++group_chosen[expert[t * choices + k]];
      }
      for (int64_t e = 0; e < experts; ++e) {
        group_probability[e] += static_cast<double>(probs[t * experts + e]);
      }
      sums.square_lse += of_token[t].square_lse;
      sums.entropy += of_token[t].entropy;
      sums.top_probability += of_token[t].top_probability;
    }
    const double count = static_cast<double>(std::max<int64_t>(real, 1));
    for (int64_t e = 0; e < experts; ++e) group_probability[e] /= count;
    statistics.tokens.data<int64_t>()[g] = real;
    statistics.mean_square_lse.data<double>()[g] = sums.square_lse / count;
    statistics.entropy.data<double>()[g] = sums.entropy / count;
    statistics.top_probability.data<double>()[g] = sums.top_probability / count;
  };
  const int64_t group_count = static_cast<int64_t>(groups.size()) - 1;
  team_.ranges(group_count, 2 * tokens * experts / std::max<int64_t>(group_count, 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t g = begin; g < end; ++g) sum_group(g);
               });
}

void CpuKernels::load_balance_gradient(ExecContext& ctx, TensorView real_view, LeafOffsets groups,
                                       const RoutingStatistics& statistics, int64_t choices,
                                       int64_t group_experts, double factor,
                                       TensorView dprobs_view) {
  const int64_t experts = dprobs_view.shape()[1];
  const int64_t group_count = static_cast<int64_t>(groups.size()) - 1;
  const int64_t* chosen = statistics.chosen.data<int64_t>();
  // The addend is the same for every real token of a group.
  const ScratchScope scope(ctx.scratch);
  float* addend = ctx.scratch.allocate(DType::kFloat32, {group_count, experts}).data<float>();
  for (int64_t g = 0; g < group_count; ++g) {
    const double tokens =
        static_cast<double>(std::max<int64_t>(statistics.tokens.data<int64_t>()[g], 1));
    for (int64_t first = 0; first < experts; first += group_experts) {
      const int64_t* of_group = chosen + g * experts + first;
      const int64_t asked = std::accumulate(of_group, of_group + group_experts, int64_t{0});
      const double share = static_cast<double>(asked) / (static_cast<double>(choices) * tokens);
      std::fill_n(addend + g * experts + first, group_experts,
                  static_cast<float>(factor * share / tokens));
    }
  }
  const RealTokens is_real(real_view);
  float* dprobs = dprobs_view.data<float>();
  team_.ranges(dprobs_view.shape()[0], experts, [&](int64_t begin, int64_t end) {
    GroupWalk group(groups, begin);
    for (int64_t t = begin; t < end; ++t) {
      if (!is_real(t)) continue;
      float* row = dprobs + t * experts;
      loops_.add(experts, row, addend + group.of(t) * experts, row);
    }
  });
}

void CpuKernels::router_z_gradient(ExecContext& ctx, TensorView logits_view, TensorView real_view,
                                   LeafOffsets groups, const RoutingStatistics& statistics,
                                   double factor, TensorView dlogits_view) {
  const int64_t experts = logits_view.shape()[1];
  const float* logits = logits_view.data<float>();
  const RealTokens is_real(real_view);
  const int64_t* tokens = statistics.tokens.data<int64_t>();
  float* dlogits = dlogits_view.data<float>();
  const ScratchScope scope(ctx.scratch);
  float* exponentials = ctx.scratch.allocate(DType::kFloat32, logits_view.shape()).data<float>();
  team_.ranges(logits_view.shape()[0], 4 * experts, [&](int64_t begin, int64_t end) {
    GroupWalk group(groups, begin);
    for (int64_t t = begin; t < end; ++t) {
      if (!is_real(t)) continue;
      float max = 0;
      float* of_token = exponentials + t * experts;
      const float sum = loops_.exp_sum(experts, logits + t * experts, of_token, &max);
      const double slope = factor * 2 / static_cast<double>(tokens[group.of(t)]);
      loops_.add_scaled(experts, static_cast<float>(slope) * (max + std::log(sum)) / sum, of_token,
                        dlogits + t * experts);
    }
  });
}

}  // namespace switchyard
