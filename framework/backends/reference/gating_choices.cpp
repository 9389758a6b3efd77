// GatingOps, second half: choices of experts and of tokens.
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Matrix;

int64_t checked_place(int64_t place, int64_t count, std::string_view what) {
  SWITCHYARD_CHECK(place >= 0 && place < count, what, " ", place, " of ", count);
  return place;
}

// The sum of the `each` best of scores[begin, begin + size).
template <typename T>
T score_of_group(const T* scores, int64_t size, int64_t each) {
  std::vector<T> best(scores, scores + size);
  std::sort(best.begin(), best.end(), std::greater<>());
  return std::accumulate(best.begin(), best.begin() + each, T{0});
}

}  // namespace

void ReferenceKernels::keep_best_groups(ExecContext&, TensorView scores_view, int64_t expert_groups,
                                        int64_t top, int64_t each, TensorView masked_view) {
  reference::with_floating(scores_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> scores(scores_view), masked(masked_view);
    const int64_t size = scores.columns() / expert_groups;
    for (int64_t t = 0; t < scores.rows(); ++t) {
      std::vector<T> of_group;
      for (int64_t i = 0; i < expert_groups; ++i) {
        of_group.push_back(score_of_group(scores.row(t) + i * size, size, each));
      }
      std::vector<size_t> order(of_group.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t i, size_t j) { return of_group[i] > of_group[j]; });
      std::vector<bool> kept(of_group.size(), false);
      for (size_t i = 0; i < static_cast<size_t>(top); ++i) kept[order[i]] = true;
      for (int64_t e = 0; e < scores.columns(); ++e) {
        masked(t, e) = kept[e / size] ? scores(t, e) : std::numeric_limits<T>::lowest();
      }
    }
  });
}

void ReferenceKernels::skip_choices(ExecContext&, TensorView expert_view, TensorView weight_view,
                                    const RandomRows& random, TensorView sent_view,
                                    TensorView skipped_view) {
  reference::with_floating(weight_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> weight(weight_view);
    const Matrix<int32_t> expert(expert_view), sent(sent_view), skipped(skipped_view);
    for (int64_t t = 0; t < expert.rows(); ++t) {
      const int64_t row = random.token.data<int64_t>()[t];
      const float uniform = random_uniform(random.key, token_of(row), choice_of(row),
                                           static_cast<uint32_t>(random.first_column));
      sent(t, 0) = expert(t, 0);
      skipped(t, 0) = -1;
      const bool stays = static_cast<T>(uniform) < 2 * weight(t, 1);
      sent(t, 1) = stays ? expert(t, 1) : -1;
      skipped(t, 1) = stays ? -1 : expert(t, 1);
    }
  });
}

void ReferenceKernels::choose_tokens(ExecContext&, TensorView probs_view, TensorView mask,
                                     LeafOffsets groups, int64_t capacity, TensorView expert_view) {
  const Matrix<int32_t> expert(expert_view);
  std::fill_n(expert_view.data<int32_t>(), expert_view.elements(), -1);
  reference::with_floating(probs_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> probs(probs_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      std::vector<int64_t> tokens;
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (reference::is_in(mask, t)) tokens.push_back(t);
      }
      for (int32_t e = 0; e < probs.columns(); ++e) {
        std::vector<int64_t> order = tokens;
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t i, int64_t j) { return probs(i, e) > probs(j, e); });
        order.resize(std::min(order.size(), static_cast<size_t>(capacity)));
        for (const int64_t t : order) expert(t, e) = e;
      }
    }
  });
}

namespace {

// ln of the sum of exp(term(i)) over i.
template <typename Term>
double log_sum_exp(int64_t count, Term term) {
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, term(i));
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(term(i) - largest);
  return largest + std::log(sum);
}

// The assignment of the tokens `in`, all of one group.
template <typename T>
void balance(const Matrix<T>& logits, const std::vector<int64_t>& in, int64_t iterations,
             const Matrix<T>& assignment) {
  const auto tokens = static_cast<int64_t>(in.size()), experts = logits.columns();
  const auto logit = [&](int64_t i, int64_t e) { return static_cast<double>(logits(in[i], e)); };
  const double share = std::log(static_cast<double>(tokens) / static_cast<double>(experts));
  // assignment = exp(logit + row + column)
  std::vector<double> row(in.size(), 0.0), column(static_cast<size_t>(experts), 0.0);
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
    for (int64_t e = 0; e < experts; ++e) {
      column[e] = share - log_sum_exp(tokens, [&](int64_t i) { return logit(i, e) + row[i]; });
    }
    for (int64_t i = 0; i < tokens; ++i) {
      row[i] = -log_sum_exp(experts, [&](int64_t e) { return logit(i, e) + column[e]; });
    }
  }
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t e = 0; e < experts; ++e) {
      assignment(in[i], e) = static_cast<T>(std::exp(logit(i, e) + row[i] + column[e]));
    }
  }
}

}  // namespace

void ReferenceKernels::sinkhorn(ExecContext& ctx, TensorView logits_view, TensorView mask,
                                LeafOffsets groups, int64_t iterations,
                                TensorView assignment_view) {
  fill_zero(ctx, assignment_view);
  reference::with_floating(logits_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> logits(logits_view), assignment(assignment_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      std::vector<int64_t> in;
      for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
        if (reference::is_in(mask, t)) in.push_back(t);
      }
      balance(logits, in, iterations, assignment);
    }
  });
}

void ReferenceKernels::join_choices(ExecContext&, TensorView group_view, TensorView inner_view,
                                    int64_t experts_per_group, TensorView expert_view) {
  const Matrix<int32_t> group(group_view), inner(inner_view), expert(expert_view);
  const int64_t count = inner.rows() / group.rows();
  for (int64_t t = 0; t < group.rows(); ++t) {
    for (int64_t i = 0; i < group.columns(); ++i) {
      for (int64_t j = 0; j < inner.columns(); ++j) {
        int32_t& joined = expert(t, i * inner.columns() + j);
        joined = -1;
        if (group(t, i) < 0) continue;
        const int64_t row = t * count + checked_place(group(t, i), count, "group");
        joined = static_cast<int32_t>(group(t, i) * experts_per_group + inner(row, j));
      }
    }
  }
}

void ReferenceKernels::split_choices(ExecContext&, TensorView expert_view,
                                     int64_t experts_per_group, TensorView group_view) {
  const Matrix<int32_t> expert(expert_view), group(group_view);
  const int64_t each = expert.columns() / group.columns();
  for (int64_t t = 0; t < group.rows(); ++t) {
    for (int64_t i = 0; i < group.columns(); ++i) {
      const int32_t first = expert(t, i * each);
      group(t, i) = first < 0 ? -1 : static_cast<int32_t>(first / experts_per_group);
    }
  }
}

void ReferenceKernels::look_up_choices(ExecContext&, TensorView table, TensorView ids,
                                       TensorView mask, TensorView expert) {
  for (int64_t t = 0; t < ids.elements(); ++t) {
    const int64_t id = checked_place(ids.data<int32_t>()[t], table.elements(), "token id");
    expert.data<int32_t>()[t] = reference::is_in(mask, t) ? table.data<int32_t>()[id] : -1;
  }
}

}  // namespace switchyard
