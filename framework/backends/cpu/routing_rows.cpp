// RoutingOps, second half: room per expert, and token rows into expert order and back.
#include <algorithm>
#include <cstring>
#include <span>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/choosing.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

int64_t checked_place(int64_t place, int64_t count, std::string_view what) {
  SWITCHYARD_CHECK(place >= 0 && place < count, what, " ", place, " of ", count);
  return place;
}

// Gives the choices of each group room in their order.
//   place_choice(t, experts of its earlier choices, wanted, room of each expert)  the expert that a
//                choice lands on, or -1
template <typename Place>
void place_choices(ExecContext& ctx, cpu::Team& team, TensorView expert_view,
                   TensorView priority_view, LeafOffsets groups, int64_t experts, int64_t capacity,
                   TensorView kept_view, const Place& place_choice) {
  const int64_t tokens = expert_view.shape()[0], choices = expert_view.shape()[1];
  const int64_t group_count = static_cast<int64_t>(groups.size()) - 1;
  const int32_t* expert = expert_view.data<int32_t>();
  const float* priority = priority_view.absent() ? nullptr : priority_view.data<float>();
  int32_t* kept = kept_view.data<int32_t>();
  const ScratchScope scope(ctx.scratch);
  int64_t* rooms = ctx.scratch.allocate(DType::kInt64, {group_count, experts}).data<int64_t>();
  auto* keys = static_cast<uint64_t*>(
      ctx.scratch.allocate(DType::kInt64, {priority == nullptr ? 0 : tokens}).raw());
  const auto plan_group = [&](int64_t g) {
    const int64_t first = groups[static_cast<size_t>(g)];
    const int64_t end = groups[static_cast<size_t>(g) + 1];
    int64_t* room = rooms + g * experts;
    std::fill_n(room, experts, capacity);
    // All first choices take room before any second choice does (GShard, section 3.2), so that a
    // popular token's second expert never displaces another token's first.
    for (int64_t k = 0; k < choices; ++k) {
      if (priority != nullptr) {
        for (int64_t t = first; t < end; ++t)
          keys[t] = cpu::order_key(priority[t * choices + k], t);
        std::sort(keys + first, keys + end);
      }
      for (int64_t i = first; i < end; ++i) {
        const int64_t t = priority == nullptr ? i : cpu::position_of(keys[i]);
        const int32_t wanted = expert[t * choices + k];
        int32_t& place = kept[t * choices + k];
        place = -1;
        if (wanted < 0) continue;
        checked_place(wanted, experts, "expert");
        place =
            place_choice(t, std::span(kept + t * choices, static_cast<size_t>(k)), wanted, room);
        if (place >= 0) room[place] -= 1;
      }
    }
  };
  team.ranges(group_count, 4 * tokens * choices / std::max<int64_t>(group_count, 1),
              [&](int64_t begin, int64_t end) {
                for (int64_t g = begin; g < end; ++g) plan_group(g);
              });
}

}  // namespace

void CpuKernels::plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority,
                               LeafOffsets groups, int64_t experts, int64_t capacity,
                               TensorView kept) {
  place_choices(ctx, team_, expert, priority, groups, experts, capacity, kept,
                [](int64_t, std::span<const int32_t>, int32_t wanted, const int64_t* room) {
                  return room[wanted] > 0 ? wanted : -1;
                });
}

void CpuKernels::plan_reroute(ExecContext& ctx, TensorView scores_view, TensorView expert,
                              TensorView priority, LeafOffsets groups, int64_t capacity,
                              TensorView kept) {
  const int64_t experts = scores_view.shape()[1];
  const float* scores = scores_view.data<float>();
  const auto place = [=](int64_t t, std::span<const int32_t> taken, int32_t wanted,
                         const int64_t* room) {
    const auto can_take = [&](int32_t e) {
      return room[e] > 0 && std::find(taken.begin(), taken.end(), e) == taken.end();
    };
    if (can_take(wanted)) return wanted;
    int32_t best = -1;
    for (int32_t e = 0; e < experts; ++e) {
      if (!can_take(e)) continue;
      if (best < 0 || scores[t * experts + e] > scores[t * experts + best]) best = e;
    }
    return best;
  };
  place_choices(ctx, team_, expert, priority, groups, experts, capacity, kept, place);
}

void CpuKernels::drop_statistics(ExecContext&, TensorView expert_view, TensorView kept_view,
                                 TensorView weight_view, TensorView dropped_view,
                                 TensorView weights_view) {
  const int64_t choices = expert_view.shape()[1];
  const int32_t *expert = expert_view.data<int32_t>(), *kept = kept_view.data<int32_t>();
  const float* weight = weight_view.data<float>();
  int64_t* dropped = dropped_view.data<int64_t>();
  std::fill_n(dropped, choices, 0);
  double all = 0, lost = 0;
  for (int64_t i = 0; i < expert_view.elements(); ++i) {
    if (expert[i] < 0) continue;
    all += static_cast<double>(weight[i]);
    if (kept[i] >= 0) continue;
    lost += static_cast<double>(weight[i]);
    dropped[i % choices] += 1;
  }
  weights_view.data<double>()[0] = all;
  weights_view.data<double>()[1] = lost;
}

void CpuKernels::count_choices(ExecContext&, TensorView kept_view, LeafOffsets groups,
                               TensorView counts_view) {
  const int64_t choices = kept_view.shape()[1], experts = counts_view.shape()[1];
  const int32_t* kept = kept_view.data<int32_t>();
  int64_t* counts = counts_view.data<int64_t>();
  std::fill_n(counts, counts_view.elements(), 0);
  for (size_t g = 0; g + 1 < groups.size(); ++g, counts += experts) {
    for (int64_t i = groups[g] * choices; i < groups[g + 1] * choices; ++i) {
      if (kept[i] >= 0) counts[checked_place(kept[i], experts, "expert")] += 1;
    }
  }
}

void CpuKernels::order_choices(ExecContext& ctx, TensorView kept_view, int64_t experts,
                               TensorView source_view, TensorView position_view) {
  const int64_t choices = kept_view.elements();
  const int32_t* kept = kept_view.data<int32_t>();
  int32_t *source = source_view.data<int32_t>(), *position = position_view.data<int32_t>();
  const ScratchScope scope(ctx.scratch);
  // next[e]: the row of expert e's next choice.
  int32_t* next = ctx.scratch.allocate(DType::kInt32, {experts + 1}).data<int32_t>();
  std::fill_n(next, experts + 1, 0);
  for (int64_t i = 0; i < choices; ++i) {
    if (kept[i] >= 0) next[checked_place(kept[i], experts, "expert") + 1] += 1;
  }
  for (int64_t e = 0; e < experts; ++e) next[e + 1] += next[e];
  for (int64_t i = 0; i < choices; ++i) {
    position[i] = -1;
    if (kept[i] < 0) continue;
    position[i] = next[kept[i]]++;
    source[position[i]] = static_cast<int32_t>(i);
  }
}

void CpuKernels::gather_row_keys(ExecContext&, TensorView token_view, TensorView source_view,
                                 int64_t choices, TensorView keys_view) {
  const int64_t* token = token_view.data<int64_t>();
  const int32_t* source = source_view.data<int32_t>();
  int64_t* keys = keys_view.data<int64_t>();
  for (int64_t i = 0; i < keys_view.elements(); ++i) {
    const int64_t t =
        checked_place(source[i] / choices, token_view.elements(), "source of a row: token");
    keys[i] = random_row(token[t], source[i] % choices);
  }
}

void CpuKernels::gather_rows(ExecContext&, TensorView x_view, TensorView source_view,
                             int64_t choices, TensorView rows_view) {
  const int64_t tokens = x_view.shape()[0], columns = x_view.shape()[1];
  const size_t row_bytes = static_cast<size_t>(columns) * size_of(x_view.dtype());
  const char* x = static_cast<const char*>(x_view.raw());
  const int32_t* source = source_view.data<int32_t>();
  char* rows = static_cast<char*>(rows_view.raw());
  team_.ranges(rows_view.shape()[0], columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t t = checked_place(source[i] / choices, tokens, "source of a row: token");
      std::memcpy(rows + static_cast<size_t>(i) * row_bytes, x + static_cast<size_t>(t) * row_bytes,
                  row_bytes);
    }
  });
}

void CpuKernels::combine_rows(ExecContext&, TensorView rows_view, TensorView position_view,
                              TensorView weight_view, TensorView y_view) {
  const int64_t columns = y_view.shape()[1], choices = position_view.shape()[1];
  const int64_t row_count = rows_view.shape()[0];
  const int32_t* position = position_view.data<int32_t>();
  const float* weight = weight_view.absent() ? nullptr : weight_view.data<float>();
  cpu::with_activation(y_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* rows = rows_view.data<T>();
    T* y = y_view.data<T>();
    team_.ranges(y_view.shape()[0], columns * choices, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> row_buffer(columns), sum_buffer(columns);
      for (int64_t t = begin; t < end; ++t) {
        float* sum = cpu::target(y + t * columns, sum_buffer.data());
        bool empty = true;
        for (int64_t i = t * choices; i < (t + 1) * choices; ++i) {
          if (position[i] < 0) continue;
          const int64_t place = checked_place(position[i], row_count, "position");
          const float* row = cpu::load(loops_, columns, rows + place * columns, row_buffer.data());
          const float factor = weight == nullptr ? 1.0f : weight[i];
          if (empty) {
            loops_.scale(columns, row, factor, sum);
          } else {
            loops_.add_scaled(columns, factor, row, sum);
          }
          empty = false;
        }
        if (empty) std::fill_n(sum, columns, 0.0f);
        cpu::store(loops_, columns, sum, y + t * columns);
      }
    });
  });
}

void CpuKernels::combine_rows_backward(ExecContext&, TensorView rows_view, TensorView source_view,
                                       TensorView position_view, TensorView weight_view,
                                       TensorView dy_view, TensorView drows_view,
                                       TensorView dweight_view) {
  const int64_t columns = dy_view.shape()[1], choices = position_view.shape()[1];
  const int64_t row_count = rows_view.shape()[0];
  const int32_t* source = source_view.data<int32_t>();
  const float* weight = weight_view.absent() ? nullptr : weight_view.data<float>();
  cpu::with_activation(dy_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *rows = rows_view.data<T>(), *dy = dy_view.data<T>();
    T* drows = drows_view.data<T>();
    team_.ranges(drows_view.shape()[0], columns, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> buffer(columns);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t choice =
            checked_place(source[i], position_view.elements(), "source of a row");
        const T* dtoken = dy + choice / choices * columns;
        float* drow = cpu::target(drows + i * columns, buffer.data());
        loops_.scale(columns, cpu::load(loops_, columns, dtoken, buffer.data()),
                     weight == nullptr ? 1.0f : weight[choice], drow);
        cpu::store(loops_, columns, drow, drows + i * columns);
      }
    });
    if (dweight_view.absent()) return;
    const int32_t* position = position_view.data<int32_t>();
    float* dweight = dweight_view.data<float>();
    team_.ranges(position_view.elements(), columns, [&](int64_t begin, int64_t end) {
      cpu::RowBuffer<T> row_buffer(columns), dy_buffer(columns);
      for (int64_t i = begin; i < end; ++i) {
        dweight[i] = 0.0f;
        if (position[i] < 0) continue;
        const int64_t place = checked_place(position[i], row_count, "position");
        dweight[i] = loops_.dot(
            columns, cpu::load(loops_, columns, rows + place * columns, row_buffer.data()),
            cpu::load(loops_, columns, dy + i / choices * columns, dy_buffer.data()));
      }
    });
  });
}

}  // namespace switchyard
