// RoutingOps, first half: scores, choices, statistics and the gradients of the router's losses.
#include <cmath>
#include <numeric>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Matrix;

template <typename T>
T log_sum_exp(const Matrix<T>& logits, int64_t t) {
  const T* row = logits.row(t);
  const T largest = *std::max_element(row, row + logits.columns());
  T sum = 0;
  for (int64_t e = 0; e < logits.columns(); ++e) sum += std::exp(row[e] - largest);
  return largest + std::log(sum);
}

bool is_real(TensorView real, int64_t t) { return real.absent() || real.data<uint8_t>()[t] != 0; }

// What one token adds to its group's sums, without its logits' part.
template <typename T>
void add_token(const Matrix<T>& probs, const Matrix<int32_t>& expert, int64_t t, int64_t g,
               const RoutingStatistics& sums) {
  sums.tokens.data<int64_t>()[g] += 1;
  for (int64_t k = 0; k < expert.columns(); ++k) {
    if (expert(t, k) >= 0) Matrix<int64_t>(sums.chosen)(g, expert(t, k)) += 1;
  }
  double largest = 0;
  for (int64_t e = 0; e < probs.columns(); ++e) {
    const double p = static_cast<double>(probs(t, e));
    Matrix<double>(sums.mean_probability)(g, e) += p;
    if (p > 0) sums.entropy.data<double>()[g] -= p * std::log(p);
    largest = std::max(largest, p);
  }
  sums.top_probability.data<double>()[g] += largest;
}

// Sums over a group's real tokens become means; a group without real tokens keeps its zeros.
void divide_by_tokens(int64_t g, const RoutingStatistics& sums) {
  const int64_t tokens = sums.tokens.data<int64_t>()[g];
  if (tokens == 0) return;
  const Matrix<double> probability(sums.mean_probability);
  for (int64_t e = 0; e < probability.columns(); ++e) {
    probability(g, e) /= static_cast<double>(tokens);
  }
  for (TensorView sum : {sums.mean_square_lse, sums.entropy, sums.top_probability}) {
    sum.data<double>()[g] /= static_cast<double>(tokens);
  }
}

}  // namespace

void ReferenceKernels::softmax(ExecContext&, TensorView logits_view, TensorView probs_view) {
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), probs(probs_view);
    for (int64_t t = 0; t < logits.rows(); ++t) {
      const T* row = logits.row(t);
      const T largest = *std::max_element(row, row + logits.columns());
      T sum = 0;
      for (int64_t e = 0; e < logits.columns(); ++e) {
        probs(t, e) = std::exp(logits(t, e) - largest);
        sum += probs(t, e);
      }
      for (int64_t e = 0; e < logits.columns(); ++e) probs(t, e) /= sum;
    }
  });
}

void ReferenceKernels::softmax_backward(ExecContext&, TensorView probs_view, TensorView dprobs_view,
                                        TensorView dlogits_view, Write write) {
  reference::with_floating(probs_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> probs(probs_view), dprobs(dprobs_view), dlogits(dlogits_view);
    for (int64_t t = 0; t < probs.rows(); ++t) {
      T mean = 0;
      for (int64_t e = 0; e < probs.columns(); ++e) mean += dprobs(t, e) * probs(t, e);
      for (int64_t e = 0; e < probs.columns(); ++e) {
        const T value = probs(t, e) * (dprobs(t, e) - mean);
        dlogits(t, e) = write == Write::kOverwrite ? value : dlogits(t, e) + value;
      }
    }
  });
}

void ReferenceKernels::choose_top_k(ExecContext&, TensorView scores_view, TensorView mask,
                                    TensorView expert_view) {
  reference::with_floating(scores_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> scores(scores_view);
    const Matrix<int32_t> expert(expert_view);
    for (int64_t t = 0; t < scores.rows(); ++t) {
      std::fill_n(expert.row(t), expert.columns(), -1);
      if (!mask.absent() && mask.data<uint8_t>()[t] == 0) continue;
      std::vector<bool> taken(static_cast<size_t>(scores.columns()), false);
      for (int64_t k = 0; k < expert.columns(); ++k) {
        int32_t best = -1;
        for (int32_t e = 0; e < scores.columns(); ++e) {
          if (!taken[e] && (best < 0 || scores(t, e) > scores(t, best))) best = e;
        }
        taken[best] = true;
        expert(t, k) = best;
      }
    }
  });
}

void ReferenceKernels::mask_choices(ExecContext&, TensorView expert_view, TensorView mask,
                                    TensorView masked_view) {
  const Matrix<int32_t> expert(expert_view), masked(masked_view);
  for (int64_t t = 0; t < expert.rows(); ++t) {
    for (int64_t k = 0; k < expert.columns(); ++k) {
      masked(t, k) = mask.data<uint8_t>()[t] != 0 ? expert(t, k) : -1;
    }
  }
}

void ReferenceKernels::gather_choices(ExecContext&, TensorView probs_view, TensorView expert_view,
                                      TensorView weight_view) {
  reference::with_floating(probs_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> probs(probs_view), weight(weight_view);
    const Matrix<int32_t> expert(expert_view);
    for (int64_t t = 0; t < expert.rows(); ++t) {
      for (int64_t k = 0; k < expert.columns(); ++k) {
        weight(t, k) = expert(t, k) >= 0 ? probs(t, expert(t, k)) : T{0};
      }
    }
  });
}

void ReferenceKernels::gather_choices_backward(ExecContext&, TensorView expert_view,
                                               TensorView dweight_view, TensorView dprobs_view) {
  reference::with_floating(dprobs_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dweight(dweight_view), dprobs(dprobs_view);
    const Matrix<int32_t> expert(expert_view);
    for (int64_t t = 0; t < expert.rows(); ++t) {
      for (int64_t k = 0; k < expert.columns(); ++k) {
        if (expert(t, k) >= 0) dprobs(t, expert(t, k)) += dweight(t, k);
      }
    }
  });
}

void ReferenceKernels::routing_statistics(ExecContext& ctx, TensorView logits_view,
                                          TensorView probs_view, TensorView expert_view,
                                          TensorView real, LeafOffsets groups,
                                          const RoutingStatistics& statistics) {
  for (TensorView part :
       {statistics.tokens, statistics.chosen, statistics.mean_probability,
        statistics.mean_square_lse, statistics.entropy, statistics.top_probability}) {
    fill_zero(ctx, part);
  }
  reference::with_floating(probs_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> probs(probs_view);
    const Matrix<int32_t> expert(expert_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (!is_real(real, t)) continue;
        add_token(probs, expert, t, g, statistics);
        if (logits_view.absent()) continue;
        const double lse = static_cast<double>(log_sum_exp(Matrix<T>(logits_view), t));
        statistics.mean_square_lse.data<double>()[g] += lse * lse;
      }
      divide_by_tokens(g, statistics);
    }
  });
}

void ReferenceKernels::load_balance_gradient(ExecContext&, TensorView real, LeafOffsets groups,
                                             const RoutingStatistics& statistics, int64_t choices,
                                             int64_t group_experts, double factor,
                                             TensorView dprobs_view) {
  reference::with_floating(dprobs_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> dprobs(dprobs_view);
    const Matrix<int64_t> chosen(statistics.chosen);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      const double tokens = static_cast<double>(statistics.tokens.data<int64_t>()[g]);
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (!is_real(real, t)) continue;
        for (int64_t e = 0; e < dprobs.columns(); ++e) {
          const int64_t* of_group = chosen.row(g) + e / group_experts * group_experts;
          const int64_t asked = std::accumulate(of_group, of_group + group_experts, int64_t{0});
          const double share = static_cast<double>(asked) / (static_cast<double>(choices) * tokens);
          dprobs(t, e) += static_cast<T>(factor * share / tokens);
        }
      }
    }
  });
}

void ReferenceKernels::router_z_gradient(ExecContext&, TensorView logits_view, TensorView real,
                                         LeafOffsets groups, const RoutingStatistics& statistics,
                                         double factor, TensorView dlogits_view) {
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), dlogits(dlogits_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      const double tokens = static_cast<double>(statistics.tokens.data<int64_t>()[g]);
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (!is_real(real, t)) continue;
        const T lse = log_sum_exp(logits, t);
        const T slope = static_cast<T>(factor * 2 / tokens) * lse;
        for (int64_t e = 0; e < logits.columns(); ++e) {
          dlogits(t, e) += slope * std::exp(logits(t, e) - lse);
        }
      }
    }
  });
}

}  // namespace switchyard
