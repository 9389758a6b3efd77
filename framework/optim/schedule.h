// The learning rate as a function of the step. Steps count from 0. Where a schedule warms up, step
// s of the first `warmup_steps` has (s + 1) / warmup_steps of the highest rate: none stands at 0,
// and the last of them has all of it. docs/semantics.md has the formulas.
#pragma once

#include <cstdint>

#include <optional>

#include "config/choice.h"

namespace switchyard {

class Schedule {
 public:
  virtual ~Schedule() = default;
  //   step  0 for the first update
  virtual double learning_rate(int64_t step) const = 0;
};

struct ConstantOptions : OptionsOf<ConstantOptions> {
  double learning_rate = 1e-3;

  void describe(Fields& f) override;
};

class ConstantSchedule : public Schedule {
 public:
  explicit ConstantSchedule(const ConstantOptions& options) : options_(options) {}
  double learning_rate(int64_t) const override { return options_.learning_rate; }

 private:
  ConstantOptions options_;
};

struct LinearWarmupCosineOptions : OptionsOf<LinearWarmupCosineOptions> {
  double learning_rate = 1e-3;
  int64_t warmup_steps = 100;
  double final_ratio = 0.1;

  void describe(Fields& f) override;
};

// Rises linearly over warmup_steps, then falls along half a cosine to final_ratio of the highest
// rate at the last step.
class LinearWarmupCosineSchedule : public Schedule {
 public:
  LinearWarmupCosineSchedule(const LinearWarmupCosineOptions& options, int64_t total_steps)
      : options_(options), total_steps_(total_steps) {}
  double learning_rate(int64_t step) const override;

 private:
  LinearWarmupCosineOptions options_;
  int64_t total_steps_;
};

struct LinearOptions : OptionsOf<LinearOptions> {
  double learning_rate = 1e-3;
  int64_t warmup_steps = 100;
  double final_ratio = 0.0;

  void describe(Fields& f) override;
};

// The same with a straight line down.
class LinearSchedule : public Schedule {
 public:
  LinearSchedule(const LinearOptions& options, int64_t total_steps)
      : options_(options), total_steps_(total_steps) {}
  double learning_rate(int64_t step) const override;

 private:
  LinearOptions options_;
  int64_t total_steps_;
};

struct WarmupStableDecayOptions : OptionsOf<WarmupStableDecayOptions> {
  enum class Decay { kLinear, kOneMinusRoot };

  double learning_rate = 1e-3;
  int64_t warmup_steps = 100;
  std::optional<int64_t> decay_steps;  // empty: a fifth of all
  Decay decay = Decay::kLinear;
  double final_ratio = 0.0;

  void describe(Fields& f) override;
  int64_t resolve_decay_steps(int64_t total_steps) const;
};

// Rises linearly over warmup_steps, stays, and falls over the last decay_steps to final_ratio of
// the highest rate at the last step (Hu 2024; the root: Hägele 2024).
class WarmupStableDecaySchedule : public Schedule {
 public:
  WarmupStableDecaySchedule(const WarmupStableDecayOptions& options, int64_t total_steps)
      : options_(options),
        decay_steps_(options.resolve_decay_steps(total_steps)),
        total_steps_(total_steps) {}
  double learning_rate(int64_t step) const override;

 private:
  WarmupStableDecayOptions options_;
  int64_t decay_steps_, total_steps_;
};

struct RsqrtOptions : OptionsOf<RsqrtOptions> {
  double factor = 1.0;
  int64_t warmup_steps = 10'000;

  void describe(Fields& f) override;
};

// factor / sqrt(max(step, warmup_steps)): level first, without a rise (T5, Switch).
class RsqrtSchedule : public Schedule {
 public:
  explicit RsqrtSchedule(const RsqrtOptions& options) : options_(options) {}
  double learning_rate(int64_t step) const override;

 private:
  RsqrtOptions options_;
};

}  // namespace switchyard
