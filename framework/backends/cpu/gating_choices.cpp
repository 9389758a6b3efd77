// GatingOps, second half: choices of experts and of tokens.
#include <cmath>
#include <limits>
#include <numeric>

#include "backends/cpu/choosing.h"
#include "backends/cpu/cpu_kernels.h"
#include "base/reused_memory.h"

namespace switchyard {
namespace {

int64_t checked_place(int64_t place, int64_t count, std::string_view what) {
  SWITCHYARD_CHECK(place >= 0 && place < count, what, " ", place, " of ", count);
  return place;
}

}  // namespace

void CpuKernels::keep_best_groups(ExecContext&, TensorView scores_view, int64_t expert_groups,
                                  int64_t top, int64_t each, TensorView masked_view) {
  const int64_t experts = scores_view.shape()[1], size = experts / expert_groups;
  team_.ranges(scores_view.shape()[0], 4 * experts, [&](int64_t begin, int64_t end) {
    ReusedVector<float> of_group(static_cast<size_t>(expert_groups));
    ReusedVector<int32_t> best(static_cast<size_t>(std::max(each, top)));
    ReusedVector<uint8_t> kept(of_group.size());
    for (int64_t t = begin; t < end; ++t) {
      const float* scores = scores_view.data<float>() + t * experts;
      float* masked = masked_view.data<float>() + t * experts;
      for (int64_t i = 0; i < expert_groups; ++i) {
        cpu::choose_largest(scores + i * size, size, each, best.data());
        float sum = 0;
        for (int64_t j = 0; j < each; ++j) sum += scores[i * size + best[static_cast<size_t>(j)]];
        of_group[static_cast<size_t>(i)] = sum;
      }
      cpu::choose_largest(of_group.data(), expert_groups, top, best.data());
      kept.assign(kept.size(), 0);
      for (int64_t i = 0; i < top; ++i) {
        kept[static_cast<size_t>(best[static_cast<size_t>(i)])] = 1;
      }
      for (int64_t e = 0; e < experts; ++e) {
        masked[e] = kept[static_cast<size_t>(e / size)] != 0 ? scores[e]
                                                             : std::numeric_limits<float>::lowest();
      }
    }
  });
}

void CpuKernels::skip_choices(ExecContext&, TensorView expert_view, TensorView weight_view,
                              const RandomRows& random, TensorView sent_view,
                              TensorView skipped_view) {
  const int32_t* expert = expert_view.data<int32_t>();
  const float* weight = weight_view.data<float>();
  const int64_t* token = random.token.data<int64_t>();
  int32_t *sent = sent_view.data<int32_t>(), *skipped = skipped_view.data<int32_t>();
  const auto column = static_cast<uint32_t>(random.first_column);
  team_.ranges(expert_view.shape()[0], 32, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float uniform =
          random_uniform(random.key, token_of(token[t]), choice_of(token[t]), column);
      sent[2 * t] = expert[2 * t];
      skipped[2 * t] = -1;
      const bool stays = uniform < 2.0f * weight[2 * t + 1];
      sent[2 * t + 1] = stays ? expert[2 * t + 1] : -1;
      skipped[2 * t + 1] = stays ? -1 : expert[2 * t + 1];
    }
  });
}

void CpuKernels::choose_tokens(ExecContext& ctx, TensorView probs_view, TensorView mask_view,
                               LeafOffsets groups, int64_t capacity, TensorView expert_view) {
  const int64_t tokens = probs_view.shape()[0], experts = probs_view.shape()[1];
  const int64_t group_count = static_cast<int64_t>(groups.size()) - 1;
  const float* probs = probs_view.data<float>();
  const uint8_t* mask = cpu::mask_of(mask_view);
  int32_t* expert = expert_view.data<int32_t>();
  std::fill_n(expert, expert_view.elements(), -1);
  const ScratchScope scope(ctx.scratch);
  auto* keys =
      static_cast<uint64_t*>(ctx.scratch.allocate(DType::kInt64, {team_.size(), tokens}).raw());
  const auto choose = [&](int64_t unit, int thread) {
    const auto g = static_cast<size_t>(unit / experts);
    const int64_t e = unit % experts;
    uint64_t *first = keys + thread * tokens, *last = first;
    for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
      if (cpu::is_in(mask, t)) *last++ = cpu::order_key(probs[t * experts + e], t);
    }
    if (capacity < last - first) {
      std::nth_element(first, first + capacity, last);
      last = first + capacity;
    }
    for (; first != last; ++first) {
      expert[cpu::position_of(*first) * experts + e] = static_cast<int32_t>(e);
    }
  };
  team_.units(group_count * experts, 4 * tokens / std::max<int64_t>(group_count, 1), choose);
}

namespace {

// One group's tokens in, and the logarithms of what scales their rows and columns.
struct Balanced {
  int64_t count = 0;          // n
  size_t experts = 0;         // E
  int64_t* tokens = nullptr;  // [n]
  double* logits = nullptr;   // [n, E]
  double* row = nullptr;      // [n]
  double* column = nullptr;   // [E]
  double* largest = nullptr;  // [E], work space, as the next
  double* sum = nullptr;      // [E]
};

// column = ln(n / E) - ln sum exp(logits + row) over the tokens.
void balance_columns(const Balanced& group) {
  const size_t experts = group.experts;
  double *largest = group.largest, *sum = group.sum;
  std::fill_n(largest, experts, -std::numeric_limits<double>::infinity());
  std::fill_n(sum, experts, 0.0);
  for (int64_t i = 0; i < group.count; ++i) {
    const double* logits = group.logits + static_cast<size_t>(i) * experts;
    for (size_t e = 0; e < experts; ++e)
      largest[e] = std::max(largest[e], logits[e] + group.row[i]);
  }
  for (int64_t i = 0; i < group.count; ++i) {
    const double* logits = group.logits + static_cast<size_t>(i) * experts;
    for (size_t e = 0; e < experts; ++e) sum[e] += std::exp(logits[e] + group.row[i] - largest[e]);
  }
  const double share = std::log(static_cast<double>(group.count) / static_cast<double>(experts));
  for (size_t e = 0; e < experts; ++e) group.column[e] = share - largest[e] - std::log(sum[e]);
}

// row = -ln sum exp(logits + column) over the experts.
void balance_rows(const Balanced& group) {
  const size_t experts = group.experts;
  for (int64_t i = 0; i < group.count; ++i) {
    const double* logits = group.logits + static_cast<size_t>(i) * experts;
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t e = 0; e < experts; ++e) largest = std::max(largest, logits[e] + group.column[e]);
    for (size_t e = 0; e < experts; ++e) sum += std::exp(logits[e] + group.column[e] - largest);
    group.row[i] = -largest - std::log(sum);
  }
}

}  // namespace

void CpuKernels::sinkhorn(ExecContext& ctx, TensorView logits_view, TensorView mask_view,
                          LeafOffsets groups, int64_t iterations, TensorView assignment_view) {
  const int64_t experts = logits_view.shape()[1];
  const float* logits = logits_view.data<float>();
  const uint8_t* mask = cpu::mask_of(mask_view);
  float* assignment = assignment_view.data<float>();
  fill_zero(ctx, assignment_view);
  const int64_t tokens = logits_view.shape()[0];
  const int64_t group_count = static_cast<int64_t>(groups.size()) - 1;
  const ScratchScope scope(ctx.scratch);
  const auto doubles = [&](const Shape& shape) {
    return ctx.scratch.allocate(DType::kFloat64, shape).data<double>();
  };
  auto* token_numbers = ctx.scratch.allocate(DType::kInt64, {tokens}).data<int64_t>();
  double *all_logits = doubles({tokens, experts}), *rows = doubles({tokens});
  double* of_experts = doubles({group_count, 3, experts});
  const auto balance = [&](int64_t g) {
    const int64_t first = groups[static_cast<size_t>(g)], end = groups[static_cast<size_t>(g) + 1];
    double* columns = of_experts + g * 3 * experts;
    Balanced group{.experts = static_cast<size_t>(experts),
                   .tokens = token_numbers + first,
                   .logits = all_logits + first * experts,
                   .row = rows + first,
                   .column = columns,
                   .largest = columns + experts,
                   .sum = columns + 2 * experts};
    for (int64_t t = first; t < end; ++t) {
      if (!cpu::is_in(mask, t)) continue;
      group.tokens[group.count] = t;
      group.row[group.count] = 0;
      std::copy_n(logits + t * experts, experts, group.logits + group.count * experts);
      ++group.count;
    }
    if (group.count == 0) return;
    std::fill_n(group.column, experts, 0.0);
    for (int64_t i = 0; i < iterations; ++i) {
      balance_columns(group);
      balance_rows(group);
    }
    const double* from = group.logits;
    for (int64_t i = 0; i < group.count; ++i) {
      float* to = assignment + group.tokens[i] * experts;
      for (int64_t e = 0; e < experts; ++e) {
        to[e] = static_cast<float>(std::exp(*from++ + group.row[i] + group.column[e]));
      }
    }
  };
  team_.units(group_count, 32 * logits_view.elements() / group_count,
              [&](int64_t g, int) { balance(g); });
}

void CpuKernels::join_choices(ExecContext&, TensorView group_view, TensorView inner_view,
                              int64_t experts_per_group, TensorView expert_view) {
  const int64_t outer = group_view.shape()[1], choices = inner_view.shape()[1];
  const int64_t count = inner_view.shape()[0] / group_view.shape()[0];
  const int32_t *group = group_view.data<int32_t>(), *inner = inner_view.data<int32_t>();
  int32_t* expert = expert_view.data<int32_t>();
  team_.ranges(group_view.elements(), 2 * choices, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int32_t* joined = expert + i * choices;
      if (group[i] < 0) {
        std::fill_n(joined, choices, -1);
        continue;
      }
      const int64_t row = i / outer * count + checked_place(group[i], count, "group");
      const auto first = static_cast<int32_t>(group[i] * experts_per_group);
      for (int64_t j = 0; j < choices; ++j) joined[j] = first + inner[row * choices + j];
    }
  });
}

void CpuKernels::split_choices(ExecContext&, TensorView expert_view, int64_t experts_per_group,
                               TensorView group_view) {
  const int64_t each = expert_view.shape()[1] / group_view.shape()[1];
  const int32_t* expert = expert_view.data<int32_t>();
  int32_t* group = group_view.data<int32_t>();
  for (int64_t i = 0; i < group_view.elements(); ++i) {
    const int32_t first = expert[i * each];
    group[i] = first < 0 ? -1 : static_cast<int32_t>(first / experts_per_group);
  }
}

void CpuKernels::look_up_choices(ExecContext&, TensorView table, TensorView ids,
                                 TensorView mask_view, TensorView expert) {
  const uint8_t* mask = cpu::mask_of(mask_view);
  for (int64_t t = 0; t < ids.elements(); ++t) {
    const int64_t id = checked_place(ids.data<int32_t>()[t], table.elements(), "token id");
    expert.data<int32_t>()[t] = cpu::is_in(mask, t) ? table.data<int32_t>()[id] : -1;
  }
}

}  // namespace switchyard
