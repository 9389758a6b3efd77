#include <cmath>
#include <vector>

#include "backends/reference/gradient_sink.h"
#include "backends/reference/products.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Accurate;
using reference::Matrix;

struct RowLoss {
  double loss = 0, z_loss = 0;
};

// Turns one row of logits into its gradient.
template <typename T>
RowLoss cross_entropy(const CrossEntropy& objective, int32_t target, std::vector<T>& row) {
  using A = Accurate<T>;
  const auto words = static_cast<int64_t>(row.size());
  if (target == kIgnoredTarget) {
    std::fill(row.begin(), row.end(), T{});
    return {};
  }
  SWITCHYARD_CHECK(target >= 0 && target < words, "target ", target, " of ", words);
  const A largest = *std::max_element(row.begin(), row.end());
  A sum = 0;
  for (const T logit : row) sum += std::exp(logit - largest);
  const A log_sum_exp = largest + std::log(sum), z = static_cast<A>(objective.z);
  const RowLoss losses{static_cast<double>(log_sum_exp - row[static_cast<size_t>(target)]),
                       static_cast<double>(z * log_sum_exp * log_sum_exp)};

  const A scale = static_cast<A>(objective.gradient_scale);
  const A rest = static_cast<A>(1 - objective.label_smoothing);
  const A spread = static_cast<A>(objective.label_smoothing) / static_cast<A>(words);
  for (int64_t v = 0; v < words; ++v) {
    T& element = row[static_cast<size_t>(v)];
    const A probability = std::exp(element - log_sum_exp);
    const A wanted = (v == target ? rest : A{0}) + spread;
    element = static_cast<T>(scale * ((1 + 2 * z * log_sum_exp) * probability - wanted));
  }
  return losses;
}

}  // namespace

void ReferenceKernels::linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective,
                                            TensorView h_view, Weight& weight, TensorView targets,
                                            LeafOffsets leaves, TensorView losses,
                                            TensorView z_losses, TensorView dh_view) {
  reference::with_activation(h_view.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> h(h_view);
    const Matrix<Accurate<T>> w(weight.master());
    std::vector<T> row(static_cast<size_t>(w.rows()));
    const auto row_losses = [&](int64_t t) {
      for (int64_t v = 0; v < w.rows(); ++v) {
        row[static_cast<size_t>(v)] = static_cast<T>(reference::dot_row<T>(w, v, h.row(t)));
      }
      const RowLoss of_row = cross_entropy(objective, targets.data<int32_t>()[t], row);
      losses.data<double>()[t] = of_row.loss;
      if (!z_losses.absent()) z_losses.data<double>()[t] = of_row.z_loss;
    };
    if (dh_view.absent()) {
      for (int64_t t = 0; t < h.rows(); ++t) row_losses(t);
      return;
    }
    const Matrix<T> dh(dh_view);
    std::vector<Accurate<T>> dh_row(static_cast<size_t>(w.columns()));
    reference::GradientSink<Accurate<T>> sink(ctx, weight);
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      for (int64_t t = leaves[leaf]; t < leaves[leaf + 1]; ++t) {
        row_losses(t);
        reference::input_gradient_row<T>(row.data(), w, dh_row.data());
        for (int64_t d = 0; d < dh.columns(); ++d) dh(t, d) = static_cast<T>(dh_row[d]);
        reference::add_outer_product<T>(row.data(), h.row(t), sink.whole());
      }
      sink.end_part();
    }
  });
}

}  // namespace switchyard
