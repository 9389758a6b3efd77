#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

void CpuKernels::sum_of_squares(ExecContext& ctx, TensorView x_view, TensorView sum_view) {
  constexpr int64_t kPart = 8192;  // fixed, so that the sum doesn't depend on the threads
  const int64_t n = x_view.elements(), parts = (n + kPart - 1) / kPart;
  const ScratchScope scope(ctx.scratch);
  double* sums = ctx.scratch.allocate(DType::kFloat64, {parts}).data<double>();
  const float* x = x_view.data<float>();
  team_.ranges(parts, kPart, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * kPart;
      sums[part] = loops_.sum_of_squares_f64(std::min(kPart, n - first), x + first);
    }
  });
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += sums[part];
  sum_view.data<double>()[0] = total;
}

void CpuKernels::gradient_of_sums(ExecContext&, Weight& weight) {
  const int64_t* sums = weight.ordered_sums().data<int64_t>();
  float* gradient = weight.gradient().data<float>();
  // Elements [n, 2 n) of the gradient stand where the sums [n / 2, n) stood: between doublings the
  // threads write to what has been read.
  constexpr int64_t kFirst = 4096;
  const int64_t elements = weight.shape().elements();
  for (int64_t begin = 0, end = kFirst; begin < elements; begin = end, end *= 2) {
    const int64_t count = std::min(end, elements) - begin;
    const auto convert = [&](int64_t first, int64_t last) {
      loops_.of_ordered(last - first, sums + begin + first, gradient + begin + first);
    };
    if (begin == 0) {
      convert(0, count);
    } else {
      team_.ranges(count, 3, convert);
    }
  }
}

void CpuKernels::adamw(ExecContext&, const AdamWStep& step, TensorView weight, TensorView gradient,
                       TensorView first, TensorView second) {
  const double count = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(step.beta1, count);
  const double correction2 = 1 - std::pow(step.beta2, count);
  const cpu::LoopAdamW loop{
      .beta1 = static_cast<float>(step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .rest1 = static_cast<float>(1 - step.beta1),
      .rest2 = static_cast<float>(1 - step.beta2),
      .epsilon = static_cast<float>(step.epsilon),
      .gradient_scale = static_cast<float>(step.gradient_scale),
      .step_size = static_cast<float>(step.learning_rate / correction1),
      .inverse_root_correct = static_cast<float>(1 / std::sqrt(correction2)),
      .decay = static_cast<float>(step.learning_rate * step.weight_decay),
  };
  const float* g = gradient.data<float>();
  float *w = weight.data<float>(), *m = first.data<float>(), *v = second.data<float>();
  team_.ranges(weight.elements(), 4, [&](int64_t begin, int64_t end) {
    loops_.adamw(end - begin, &loop, g + begin, w + begin, m + begin, v + begin);
  });
}

void CpuKernels::sgd(ExecContext&, const SgdStep& step, TensorView weight, TensorView gradient,
                     TensorView velocity) {
  const cpu::LoopSgd loop{
      .momentum = static_cast<float>(step.momentum),
      .gradient_scale = static_cast<float>(step.gradient_scale),
      .from_gradient = step.nesterov ? 1.0f : 0.0f,
      .from_velocity = step.nesterov ? static_cast<float>(step.momentum) : 1.0f,
      .step_size = static_cast<float>(step.learning_rate),
      .decay = static_cast<float>(step.learning_rate * step.weight_decay),
  };
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  float* v = velocity.absent() ? nullptr : velocity.data<float>();
  const float plain = static_cast<float>(step.learning_rate * step.gradient_scale);
  team_.ranges(weight.elements(), 3, [&](int64_t begin, int64_t end) {
    if (v == nullptr) {
      loops_.decayed_step(end - begin, plain, g + begin, loop.decay, w + begin);
    } else {
      loops_.sgd(end - begin, &loop, g + begin, w + begin, v + begin);
    }
  });
}

}  // namespace switchyard
