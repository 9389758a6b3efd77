#include "moe/capacity.h"

#include <algorithm>
#include <cmath>

namespace switchyard {

int64_t capacity_of_group(const CapacityRule& rule, bool training, int64_t choices,
                          int64_t group_tokens, int64_t experts) {
  if (rule.tokens) return *rule.tokens;
  const double factor = training ? rule.train_factor : rule.eval_factor;
  const double mean = factor * static_cast<double>(choices) * static_cast<double>(group_tokens) /
                      static_cast<double>(experts);
  // 1.1 * 50 / 5 is a little more than 11 in binary: rounding up must not see that. Rounding down
  // is Mesh-TensorFlow's int() to the last bit.
  constexpr double kRoundingErrors = 1e-14;
  const double rounded =
      rule.round_up ? std::ceil(mean * (1.0 - kRoundingErrors)) : std::floor(mean);
  return std::max(rule.min_tokens, static_cast<int64_t>(rounded));
}

}  // namespace switchyard
