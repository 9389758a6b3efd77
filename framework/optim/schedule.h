// The learning rate as a function of the step.
#pragma once

#include <cstdint>

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

// Rises linearly over warmup_steps to learning_rate, then falls along half a cosine to
// final_ratio * learning_rate at the last step.
class LinearWarmupCosineSchedule : public Schedule {
 public:
  LinearWarmupCosineSchedule(const LinearWarmupCosineOptions& options, int64_t total_steps)
      : options_(options), total_steps_(total_steps) {}
  double learning_rate(int64_t step) const override;

 private:
  LinearWarmupCosineOptions options_;
  int64_t total_steps_;
};

}  // namespace switchyard
