#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "config/fields.h"

namespace switchyard {

static constexpr Range<double> kLearningRates{0.0, 10.0};

void ConstantOptions::describe(Fields& f) {
  f.real("learning_rate", learning_rate, kLearningRates, "", "Learning rate of every step.");
}

void LinearWarmupCosineOptions::describe(Fields& f) {
  f.real("learning_rate", learning_rate, kLearningRates, "", "Highest learning rate.");
  f.integer("warmup_steps", warmup_steps, {0, int64_t{1} << 40}, "steps",
            "Steps over which the learning rate rises linearly from 0.");
  f.real("final_ratio", final_ratio, {0.0, 1.0}, "ratio",
         "Learning rate of the last step over the highest.");
}

double LinearWarmupCosineSchedule::learning_rate(int64_t step) const {
  const double peak = options_.learning_rate;
  if (step < options_.warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(options_.warmup_steps);
  }
  const auto falling =
      static_cast<double>(std::max<int64_t>(1, total_steps_ - 1 - options_.warmup_steps));
  const double progress =
      std::min(1.0, static_cast<double>(step - options_.warmup_steps) / falling);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return peak * (options_.final_ratio + (1.0 - options_.final_ratio) * cosine);
}

}  // namespace switchyard
