// `bench`: whole training steps on made up tokens, and what the processor could do at best.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "cli/verbs.h"
#include "config/resolve.h"
#include "data/random_tokens.h"
#include "registry/devices.h"
#include "registry/make_model.h"
#include "registry/run_parts.h"
#include "report/profile_table.h"
#include "trainer/benchmark.h"
#include "trainer/metrics.h"

namespace switchyard {

namespace {

struct BenchArguments : ConfigArguments {
  std::string steps = "10", warmup = "3";
  bool optimizer_excluded = false;
  bool json = false;

  BenchmarkOptions options() const;
};

// What is said beside the result.
struct Setting {
  Config config;
  int ranks = 1, threads = 1;
  int64_t vocabulary = 0;
  std::optional<DeviceLimits> limits;  // of all ranks together
};

BenchmarkOptions BenchArguments::options() const {
  const BenchmarkOptions options{.warmup = parse_count("--warmup", warmup),
                                 .steps = parse_count("--steps", steps),
                                 .with_optimizer = !optimizer_excluded};
  if (options.steps == 0)
    throw ConfigError("--steps 0: there is nothing to time", "", "give 1 or more");
  return options;
}

RandomTokens make_source(const Config& config, int64_t vocabulary) {
  const bool causal = config.model.is_decoder_only();
  const auto shorter = static_cast<int>(resolve_shorter_length(config));
  return RandomTokens(
      {.causal = causal,
       .inputs_width = causal ? shorter : static_cast<int>(config.data.inputs_length),
       .targets_width = causal ? shorter : static_cast<int>(resolve_targets_length(config.data)),
       .vocabulary = static_cast<int>(vocabulary),
       .seed = static_cast<uint64_t>(config.seed)});
}

// Ranks measure at the same time, since they share processors and memory.
std::optional<DeviceLimits> limits_of_job(Collectives& world, const std::string& device,
                                          int threads) {
  world.barrier();
  const std::optional<DeviceLimits> here = measure_limits(device, threads);
  if (!here) return {};
  const std::vector<double> sums = sum_over_ranks(world, {here->flops, here->bytes_per_second});
  return DeviceLimits{.flops = sums[0], .bytes_per_second = sums[1]};
}

double least(const std::vector<double>& seconds) { return *std::ranges::min_element(seconds); }

nlohmann::ordered_json json_of(const BenchmarkResult& result, const Setting& setting) {
  const double step = median(result.step_seconds);
  nlohmann::ordered_json phases, limit;
  for (const PhaseRecord& phase : result.profile.phases) phases[phase.name] = phase.seconds;
  if (setting.limits) {
    limit = {{"flops", setting.limits->flops},
             {"bytes_per_second", setting.limits->bytes_per_second}};
  }
  return {{"model", setting.config.model.type},
          {"precision", name_of(precision_of(setting.config))},
          {"ranks", setting.ranks},
          {"threads", setting.threads},
          {"vocabulary", setting.vocabulary},
          {"steps", result.step_seconds.size()},
          {"tokens_per_step", result.tokens_per_step},
          {"tokens_per_second", result.tokens_per_step / step},
          {"step_seconds", {{"min", least(result.step_seconds)}, {"median", step}}},
          {"optimizer_seconds", median(result.optimizer_seconds)},
          {"forward_backward_seconds", median(result.forward_backward_seconds)},
          {"flops_per_step", result.flops_per_step},
          {"flops_per_second", result.flops_per_step / step},
          {"limit", limit},
          {"phases", phases},
          {"accounted", result.profile.accounted},
          {"rows_by_rank", result.rows_by_rank},
          {"load_imbalance", result.load_imbalance()}};
}

void print(const BenchmarkResult& result, const Setting& setting) {
  const double step = median(result.step_seconds);
  const double flops = result.flops_per_step / step;
  fmt::print("{} ranks with {} threads each; {:.0f} tokens a step, vocabulary {}\n", setting.ranks,
             setting.threads, result.tokens_per_step, setting.vocabulary);
  fmt::print(
      "step: median {:.1f} ms, least {:.1f} ms of {}; forward and backward {:.1f} ms, optimizer "
      "{:.1f} ms\n",
      step * 1e3, least(result.step_seconds) * 1e3, result.step_seconds.size(),
      median(result.forward_backward_seconds) * 1e3, median(result.optimizer_seconds) * 1e3);
  fmt::print("{:.0f} tokens/s; {:.1f} GFLOP/s of products executed", result.tokens_per_step / step,
             flops * 1e-9);
  if (setting.limits) {
    fmt::print(
        ", {:.1f} % of the {:.1f} GFLOP/s that multiply-adds on registers reach here; memory "
        "{:.1f} GB/s",
        100 * flops / setting.limits->flops, setting.limits->flops * 1e-9,
        setting.limits->bytes_per_second * 1e-9);
  }
  fmt::print("\nrows computed by the experts of each rank:");
  for (const double rows : result.rows_by_rank) fmt::print(" {:.0f}", rows);
  fmt::print(" (most over mean: {:.3f})\n", result.load_imbalance());
  for (const std::string& line : profile_table(result.profile)) fmt::print("{}\n", line);
}

void bench(const BenchArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const BenchmarkOptions options = arguments.options();
  Setting setting{.config = arguments.load(), .ranks = world.size(), .threads = 1};
  Config& config = setting.config;
  // A schedule that ends before the last step would have nothing to say about it.
  config.train.steps = std::max(config.train.steps, options.warmup + options.steps);
  setting.threads = resolve_threads(config, job.ranks_on_this_node());
  setting.vocabulary = config.model.vocabulary.value_or(8192);
  RunParts parts(config, setting.vocabulary, world, setting.threads);
  const RandomTokens source = make_source(config, setting.vocabulary);
  Tracer tracer;
  TrainStep::Options step_choices = step_options(config, parts.layout);
  step_choices.tracer = &tracer;
  TrainStep step(
      {*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule, source},
      step_choices);
  const BenchmarkResult result = run_benchmark(step, *parts.model, world, tracer, options);
  setting.limits = limits_of_job(world, resolve_device(config.device, ""), setting.threads);
  if (world.rank() != 0) return;
  if (arguments.json) {
    fmt::print("{}\n", json_of(result, setting).dump());
  } else {
    print(result, setting);
  }
}

}  // namespace

void add_bench(CommandLine& line) {
  auto arguments = std::make_shared<BenchArguments>();
  auto verb = line.verb("bench", "Time whole training steps of a config on made up tokens");
  arguments->add_to(verb);
  verb.option("--steps", arguments->steps, "N", "Steps that are timed; 10 if not given")
      .option("--warmup", arguments->warmup, "M", "Steps before them; 3 if not given")
      .flag("--optimizer-excluded", arguments->optimizer_excluded,
            "Leave the optimizer out: a step ends with its gradients, weights stay as they are")
      .flag("--json", arguments->json, "Print one JSON object instead of text")
      .example("mpirun -np 2 switchyard bench configs/quickstart.yaml --steps 20")
      .runs([arguments] { run_in_job([&](Job& job) { bench(*arguments, job); }); });
}

}  // namespace switchyard
