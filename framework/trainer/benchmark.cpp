#include "trainer/benchmark.h"

#include <algorithm>
#include <numeric>

#include "base/timer.h"
#include "trainer/metrics.h"
#include "trainer/profile.h"

namespace switchyard {

double BenchmarkResult::load_imbalance() const {
  const double all = std::accumulate(rows_by_rank.begin(), rows_by_rank.end(), 0.0);
  if (all == 0) return 1;
  return *std::ranges::max_element(rows_by_rank) * static_cast<double>(rows_by_rank.size()) / all;
}

double median(std::vector<double> values) {
  SWITCHYARD_CHECK(!values.empty(), "the median of nothing");
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

BenchmarkResult run_benchmark(TrainStep& step, Model& model, Collectives& world, Tracer& tracer,
                              const BenchmarkOptions& options) {
  SWITCHYARD_CHECK(options.steps > 0, options.steps, " steps");
  const auto timed = static_cast<double>(options.steps);
  const std::vector<MoeLayer*> layers = model.moe_layers();
  BenchmarkResult result;
  result.rows_by_rank.resize(static_cast<size_t>(world.size()));
  double& rows_here = result.rows_by_rank[static_cast<size_t>(world.rank())];
  for (int64_t number = 0; number < options.warmup + options.steps; ++number) {
    world.barrier();
    if (number == options.warmup) tracer.restart();
    const Timer timer;
    const Span span(&tracer, Phase::kOther, "step", number);
    StepRecord record = step.accumulate(number);
    const double gradients_ready = timer.seconds();
    if (options.with_optimizer) step.update(number, record);
    const double updated = timer.seconds();
    if (number < options.warmup) continue;
    result.step_seconds.push_back(updated);
    result.forward_backward_seconds.push_back(gradients_ready);
    result.optimizer_seconds.push_back(updated - gradients_ready);
    result.tokens_per_step += static_cast<double>(record.tokens) / timed;
    result.flops_per_step += static_cast<double>(record.flops) / timed;
    for (const MoeLayer* layer : layers) rows_here += layer->observation().rows_computed;
  }
  for (auto* seconds :
       {&result.step_seconds, &result.forward_backward_seconds, &result.optimizer_seconds}) {
    *seconds = max_over_ranks(world, *seconds);
  }
  rows_here /= timed;
  result.rows_by_rank = sum_over_ranks(world, result.rows_by_rank);
  result.profile = profile_of(world, tracer, options.warmup + options.steps);
  return result;
}

}  // namespace switchyard
