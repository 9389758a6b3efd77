// RoutingOps, second half: room per expert, and token rows into expert order and back.
#include <numeric>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Accurate;
using reference::Matrix;

// Tokens begin..end-1 by descending priority of their k-th choice, among equals by position.
std::vector<int64_t> by_priority(TensorView priority_view, int64_t k, int64_t begin, int64_t end) {
  std::vector<int64_t> tokens(static_cast<size_t>(end - begin));
  std::iota(tokens.begin(), tokens.end(), begin);
  if (priority_view.absent()) return tokens;
  reference::with_floating(priority_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> priority(priority_view);
    std::stable_sort(tokens.begin(), tokens.end(), [&](int64_t left, int64_t right) {
      return priority(left, k) > priority(right, k);
    });
  });
  return tokens;
}

int64_t checked_place(int64_t place, int64_t count, std::string_view what) {
  SWITCHYARD_CHECK(place >= 0 && place < count, what, " ", place, " of ", count);
  return place;
}

}  // namespace

void ReferenceKernels::plan_capacity(ExecContext&, TensorView expert_view, TensorView priority,
                                     LeafOffsets groups, int64_t experts, int64_t capacity,
                                     TensorView kept_view) {
  const Matrix<int32_t> expert(expert_view), kept(kept_view);
  for (size_t g = 0; g + 1 < groups.size(); ++g) {
    std::vector<int64_t> room(static_cast<size_t>(experts), capacity);
    // All first choices take room before any second choice does (GShard, section 3.2), so that a
    // popular token's second expert never displaces another token's first.
    for (int64_t k = 0; k < expert.columns(); ++k) {
      for (int64_t t : by_priority(priority, k, groups[g], groups[g + 1])) {
        const int32_t wanted = expert(t, k);
        kept(t, k) = -1;
        if (wanted < 0) continue;
        if (room[checked_place(wanted, experts, "expert")] == 0) continue;
        room[wanted] -= 1;
        kept(t, k) = wanted;
      }
    }
  }
}

void ReferenceKernels::plan_reroute(ExecContext&, TensorView scores_view, TensorView expert_view,
                                    TensorView priority, LeafOffsets groups, int64_t capacity,
                                    TensorView kept_view) {
  reference::with_floating(scores_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> scores(scores_view);
    const Matrix<int32_t> expert(expert_view), kept(kept_view);
    for (size_t g = 0; g + 1 < groups.size(); ++g) {
      std::vector<int64_t> room(static_cast<size_t>(scores.columns()), capacity);
      for (int64_t k = 0; k < expert.columns(); ++k) {
        for (int64_t t : by_priority(priority, k, groups[g], groups[g + 1])) {
          kept(t, k) = -1;
          if (expert(t, k) < 0) continue;
          const int64_t wanted = checked_place(expert(t, k), scores.columns(), "expert");
          const auto can_take = [&](int64_t e) {
            return room[e] > 0 && std::find(kept.row(t), kept.row(t) + k, e) == kept.row(t) + k;
          };
          int64_t landed = can_take(wanted) ? wanted : -1;
          for (int64_t e = 0; e < scores.columns() && !can_take(wanted); ++e) {
            if (!can_take(e)) continue;
            if (landed < 0 || scores(t, e) > scores(t, landed)) landed = e;
          }
          if (landed < 0) continue;
          room[landed] -= 1;
          kept(t, k) = static_cast<int32_t>(landed);
        }
      }
    }
  });
}

void ReferenceKernels::drop_statistics(ExecContext& ctx, TensorView expert_view,
                                       TensorView kept_view, TensorView weight_view,
                                       TensorView dropped, TensorView weights) {
  fill_zero(ctx, dropped);
  fill_zero(ctx, weights);
  reference::with_floating(weight_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> weight(weight_view);
    const Matrix<int32_t> expert(expert_view), kept(kept_view);
    for (int64_t t = 0; t < expert.rows(); ++t) {
      for (int64_t k = 0; k < expert.columns(); ++k) {
        if (expert(t, k) < 0) continue;
        const double share = static_cast<double>(weight(t, k));
        weights.data<double>()[0] += share;
        if (kept(t, k) >= 0) continue;
        weights.data<double>()[1] += share;
        dropped.data<int64_t>()[k] += 1;
      }
    }
  });
}

void ReferenceKernels::count_choices(ExecContext& ctx, TensorView kept_view, LeafOffsets groups,
                                     TensorView counts_view) {
  fill_zero(ctx, counts_view);
  const Matrix<int32_t> kept(kept_view);
  const Matrix<int64_t> counts(counts_view);
  for (size_t g = 0; g + 1 < groups.size(); ++g) {
    for (int64_t t = groups[g]; t < groups[g + 1]; ++t) {
      for (int64_t k = 0; k < kept.columns(); ++k) {
        if (kept(t, k) < 0) continue;
        counts(g, checked_place(kept(t, k), counts.columns(), "expert")) += 1;
      }
    }
  }
}

void ReferenceKernels::order_choices(ExecContext&, TensorView kept_view, int64_t experts,
                                     TensorView source_view, TensorView position_view) {
  const int32_t* kept = kept_view.data<int32_t>();
  int32_t* source = source_view.data<int32_t>();
  int32_t* position = position_view.data<int32_t>();
  const int32_t choices = static_cast<int32_t>(kept_view.elements());
  std::fill_n(position, choices, -1);
  int32_t rows = 0;
  for (int64_t e = 0; e < experts; ++e) {
    for (int32_t choice = 0; choice < choices; ++choice) {
      if (kept[choice] != e) continue;
      source[rows] = choice;
      position[choice] = rows++;
    }
  }
}

void ReferenceKernels::gather_row_keys(ExecContext&, TensorView token, TensorView source,
                                       int64_t choices, TensorView keys) {
  for (int64_t i = 0; i < keys.elements(); ++i) {
    const int32_t choice = source.data<int32_t>()[i];
    const int64_t t = checked_place(choice / choices, token.elements(), "source of a row: token");
    keys.data<int64_t>()[i] = random_row(token.data<int64_t>()[t], choice % choices);
  }
}

void ReferenceKernels::gather_rows(ExecContext&, TensorView x_view, TensorView source,
                                   int64_t choices, TensorView rows_view) {
  reference::with_activation(x_view.dtype(), [&](auto zero) {
    const Matrix<decltype(zero)> x(x_view), rows(rows_view);
    for (int64_t i = 0; i < rows.rows(); ++i) {
      const int64_t t =
          checked_place(source.data<int32_t>()[i] / choices, x.rows(), "source of a row: token");
      std::copy_n(x.row(t), x.columns(), rows.row(i));
    }
  });
}

void ReferenceKernels::combine_rows(ExecContext&, TensorView rows_view, TensorView position_view,
                                    TensorView weight, TensorView y_view) {
  reference::with_activation(rows_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> rows(rows_view), y(y_view);
    const Matrix<int32_t> position(position_view);
    std::vector<A> sum(static_cast<size_t>(y.columns()));
    for (int64_t t = 0; t < y.rows(); ++t) {
      std::fill(sum.begin(), sum.end(), A{0});
      for (int64_t k = 0; k < position.columns(); ++k) {
        if (position(t, k) < 0) continue;
        const T* row = rows.row(checked_place(position(t, k), rows.rows(), "position"));
        const A factor = weight.absent() ? A{1} : Matrix<A>(weight)(t, k);
        for (int64_t d = 0; d < y.columns(); ++d) sum[d] += factor * row[d];
      }
      for (int64_t d = 0; d < y.columns(); ++d) y(t, d) = static_cast<T>(sum[d]);
    }
  });
}

void ReferenceKernels::combine_rows_backward(ExecContext&, TensorView rows_view, TensorView source,
                                             TensorView position_view, TensorView weight_view,
                                             TensorView dy_view, TensorView drows_view,
                                             TensorView dweight_view) {
  reference::with_activation(rows_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = Accurate<T>;
    const Matrix<T> rows(rows_view), dy(dy_view), drows(drows_view);
    const Matrix<int32_t> position(position_view);
    for (int64_t i = 0; i < drows.rows(); ++i) {
      const int64_t choice =
          checked_place(source.data<int32_t>()[i], position_view.elements(), "source of a row");
      const A factor = weight_view.absent() ? A{1} : weight_view.data<A>()[choice];
      const T* dtoken = dy.row(choice / position.columns());
      for (int64_t d = 0; d < drows.columns(); ++d) {
        drows(i, d) = static_cast<T>(factor * dtoken[d]);
      }
    }
    if (dweight_view.absent()) return;
    const Matrix<A> dweight(dweight_view);
    for (int64_t t = 0; t < position.rows(); ++t) {
      for (int64_t k = 0; k < position.columns(); ++k) {
        dweight(t, k) = 0;
        if (position(t, k) < 0) continue;
        const T* row = rows.row(checked_place(position(t, k), rows.rows(), "position"));
        for (int64_t d = 0; d < dy.columns(); ++d) dweight(t, k) += row[d] * dy(t, d);
      }
    }
  });
}

}  // namespace switchyard
