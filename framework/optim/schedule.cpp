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

static void describe_highest(Fields& f, double& learning_rate) {
  f.real("learning_rate", learning_rate, kLearningRates, "", "Highest learning rate.");
}

static void describe_warmup(Fields& f, int64_t& warmup_steps) {
  f.integer("warmup_steps", warmup_steps, {0, int64_t{1} << 40}, "steps",
            "Steps over which the learning rate rises linearly from 0; the last has all of it.");
}

static void describe_end(Fields& f, double& final_ratio) {
  f.real("final_ratio", final_ratio, {0.0, 1.0}, "ratio",
         "Learning rate of the last step over the highest.");
}

void LinearWarmupCosineOptions::describe(Fields& f) {
  describe_highest(f, learning_rate);
  describe_warmup(f, warmup_steps);
  describe_end(f, final_ratio);
}

void LinearOptions::describe(Fields& f) {
  describe_highest(f, learning_rate);
  describe_warmup(f, warmup_steps);
  describe_end(f, final_ratio);
}

void WarmupStableDecayOptions::describe(Fields& f) {
  describe_highest(f, learning_rate);
  describe_warmup(f, warmup_steps);
  f.integer_or("auto", "decay_steps", decay_steps, {1, int64_t{1} << 40}, "steps",
               "Last steps, over which the learning rate falls; auto is a fifth of train.steps.");
  f.one_of("decay", decay, {{Decay::kLinear, "linear"}, {Decay::kOneMinusRoot, "one_minus_root"}},
           "How it falls over a share x of these steps: as 1 - x, or as 1 - sqrt(x).");
  describe_end(f, final_ratio);
}

void RsqrtOptions::describe(Fields& f) {
  f.real("factor", factor, {0.0, 1e4}, "", "Times 1 / sqrt(max(step, warmup_steps)).");
  f.integer("warmup_steps", warmup_steps, {1, int64_t{1} << 40}, "steps",
            "Steps for which the learning rate stays at factor / sqrt(warmup_steps); it doesn't "
            "rise.");
}

int64_t WarmupStableDecayOptions::resolve_decay_steps(int64_t total_steps) const {
  return decay_steps.value_or(std::max<int64_t>(1, total_steps / 5));
}

// How much of the highest rate a step of the warm-up has.
static double warmup_share(int64_t step, int64_t warmup_steps) {
  return static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
}

// How far a step is from the end of the warm-up, 0, to the last step, 1.
static double progress(int64_t step, int64_t warmup_steps, int64_t total_steps) {
  const auto falling = static_cast<double>(std::max<int64_t>(1, total_steps - 1 - warmup_steps));
  return std::min(1.0, static_cast<double>(step - warmup_steps) / falling);
}

// `share` of the way from final_ratio to 1.
static double above(double final_ratio, double share) {
  return final_ratio + (1.0 - final_ratio) * share;
}

double LinearWarmupCosineSchedule::learning_rate(int64_t step) const {
  const double peak = options_.learning_rate;
  if (step < options_.warmup_steps) return peak * warmup_share(step, options_.warmup_steps);
  const double done = progress(step, options_.warmup_steps, total_steps_);
  return peak * above(options_.final_ratio, 0.5 * (1.0 + std::cos(std::numbers::pi * done)));
}

double LinearSchedule::learning_rate(int64_t step) const {
  const double peak = options_.learning_rate;
  if (step < options_.warmup_steps) return peak * warmup_share(step, options_.warmup_steps);
  const double done = progress(step, options_.warmup_steps, total_steps_);
  return peak * above(options_.final_ratio, 1.0 - done);
}

double WarmupStableDecaySchedule::learning_rate(int64_t step) const {
  const double peak = options_.learning_rate;
  if (step < options_.warmup_steps) return peak * warmup_share(step, options_.warmup_steps);
  const int64_t falling = step - (total_steps_ - decay_steps_) + 1;
  if (falling <= 0) return peak;
  const double done =
      std::min(1.0, static_cast<double>(falling) / static_cast<double>(decay_steps_));
  const bool root = options_.decay == WarmupStableDecayOptions::Decay::kOneMinusRoot;
  return peak * above(options_.final_ratio, 1.0 - (root ? std::sqrt(done) : done));
}

double RsqrtSchedule::learning_rate(int64_t step) const {
  const int64_t level = std::max(step, options_.warmup_steps);
  return options_.factor / std::sqrt(static_cast<double>(level));
}

}  // namespace switchyard
