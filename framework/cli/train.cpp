#include <fstream>

#include "base/directory_lock.h"
#include "base/log.h"
#include "base/stop_signal.h"
#include "cli/memory_plan.h"
#include "cli/metric_sinks.h"
#include "cli/verbs.h"
#include "config/resolve.h"
#include "registry/option_rules.h"
#include "report/html_report.h"
#include "trainer/profile.h"
#include "trainer/trainer.h"

namespace switchyard {

static void tell_consequences(const Config& config) {
  for (const std::string& warning : warnings_of_routing(config)) log_warning(warning);
  const LoadBalanceConfig& balance = config.moe.losses.load_balance;
  if (balance.coef > 0 && balance.scope == LoadBalanceConfig::Scope::kGlobal &&
      config.train.micro_batches > 1) {
    log_info(
        "load_balance.two_pass: each step runs a counting forward over its {} micro-batches first, "
        "about a third more work (counting_seconds in metrics.jsonl)",
        config.train.micro_batches);
  }
}

static DirectoryLock lock_run_directory(const RunDirectory& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.path, error);
  if (error) {
    throw SpaceError("cannot make the run directory: " + error.message(), directory.path.string(),
                     "make it writable or set run.dir");
  }
  std::optional<DirectoryLock> lock = DirectoryLock::try_acquire(directory.path);
  if (!lock) {
    throw ConfigError("another process is training this run", directory.path.string(),
                      "wait for it to end, or give this run another name: --set name=...");
  }
  return std::move(*lock);
}

static void write_config(const Config& config, const RunDirectory& directory) {
  std::ofstream file(directory.config(), std::ios::trunc);
  file << to_yaml_with_origins(config) << std::flush;
  if (!file) {
    throw SpaceError("cannot write the run's config", directory.config().string(),
                     "make the run directory writable or set run.dir");
  }
}

// The run's folder as rank 0 holds it: nobody else trains there, and records go to its files.
struct OpenRun {
  DirectoryLock lock;
  std::vector<std::unique_ptr<MetricSink>> sinks;

  OpenRun(const Config& config, const RunDirectory& directory, ProgressStyle style,
          const RunData* traced)
      : lock(lock_run_directory(directory)) {
    write_config(config, directory);
    sinks = make_metric_sinks(config, directory, style, traced);
  }
  std::vector<MetricSink*> borrowed() const {
    std::vector<MetricSink*> all;
    for (const auto& sink : sinks) all.push_back(sink.get());
    return all;
  }
};

// What goes wrong with the report is said and changes nothing about the run: `switchyard report`
// can make it again. A run that broke off before its first step has nothing to report.
static void make_report(const RunDirectory& directory, int ranks, bool broke_off) {
  try {
    log_info("report: {}", write_html_report(directory.path).string());
  } catch (const Error& error) {
    if (!broke_off || error.exit_code() != ExitCode::kBadData) report_error(error, 0, ranks, true);
  } catch (const std::exception& error) {
    report_error(Error(ExitCode::kDefect, error.what()), 0, ranks, true);
  }
}

// What the tracers of all ranks saw, to the sinks and into the run's folder. Every rank calls it.
//   step  updates made
static void keep_profile(Collectives& world, const Tracer& tracer, const RunDirectory& directory,
                         const std::string& name, const std::vector<MetricSink*>& sinks,
                         int64_t step) {
  const ProfileRecord record = profile_of(world, tracer, step);
  for (MetricSink* sink : sinks) sink->profile(record);
  write_trace(world, tracer, directory.trace(), name);
  if (tracer.left_out() > 0) {
    log_warning("trace.json holds the first {} spans of rank 0, {} more found no room",
                tracer.spans().size(), tracer.left_out());
  }
  log_info("trace: {} (for chrome://tracing or ui.perfetto.dev)", directory.trace().string());
}

struct TrainArguments : ConfigArguments {
  std::string from;
  std::string progress = "auto";
  bool trace_routing = false, profile = false;
};

static RunCheckpoints::Options checkpoint_options(const Config& config,
                                                  const RunDirectory& directory,
                                                  const RunData& data, const std::string& from) {
  return {.directory = directory.checkpoints(),
          .run_id = config.name,
          .keep = config.checkpoint.keep,
          .keep_every = config.checkpoint.keep_every.value_or(0),
          .async = config.checkpoint.async,
          .fallback = config.checkpoint.fallback,
          .config_text = to_yaml(config),
          .dataset_hash = data.digest,
          .tokenizer = data.tokenizer_file(),
          .vocabulary = data.vocabulary().size,
          .from = checkpoint_at(from),
          .partial = config.checkpoint.partial,
          .seed = static_cast<uint64_t>(config.seed),
          .batch_sequences = config.train.batch_sequences};
}

static ExitCode train(const TrainArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const Config config = arguments.load();
  const ProgressStyle style = progress_style(arguments.progress);
  const int threads = resolve_threads(config, job.ranks_on_this_node());
  const std::unique_ptr<RunData> data = RunData::open(config);
  MemoryPlan memory;
  RunParts parts(config, resolve_vocabulary(config, *data), world, threads);
  const RunDirectory directory = run_directory(config);
  std::optional<OpenRun> run;
  if (world.rank() == 0) {
    run.emplace(config, directory, style, arguments.trace_routing ? data.get() : nullptr);
  }
  world.barrier();  // the directory is there
  open_log_file(directory.log(world.rank()), world.size());
  announce(config, parts, *data, threads);
  tell_consequences(config);

  std::optional<Tracer> tracer;
  if (arguments.profile) tracer.emplace();
  TrainStep::Options step_choices = step_options(config, parts.layout);
  step_choices.tracer = tracer ? &*tracer : nullptr;
  TrainStep step({*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule,
                  *data->training},
                 step_choices);
  Evaluator evaluator =
      make_evaluator(config, parts, *data, {.trace_routing = arguments.trace_routing});
  RunCheckpoints checkpoints(checkpoint_options(config, directory, *data, arguments.from),
                             parts.weights, *parts.optimizer, parts.groups);
  memory.make(config, parts, *data, step, evaluator);
  memory.announce();
  StopVote stop(world, stop_signal);
  const std::vector<MetricSink*> sinks = run ? run->borrowed() : std::vector<MetricSink*>();
  Trainer trainer(step, evaluator, checkpoints, sinks, stop,
                  {.steps = config.train.steps,
                   .evaluate_every = config.train.evaluate_every,
                   .checkpoint_every = config.checkpoint.every,
                   .start = start_record(config, parts, threads),
                   .tracer = step_choices.tracer});
  Trainer::Ending ending{};
  try {
    if (tracer) {
      world.barrier();
      tracer->restart();  // all ranks' time begins here
    }
    ending = trainer.run();
    if (tracer && tracer->outermost() > 0) {
      keep_profile(world, *tracer, directory, config.name, sinks, checkpoints.last_step());
    }
  } catch (...) {
    if (run) make_report(directory, world.size(), true);
    throw;
  }
  if (run) make_report(directory, world.size(), ending == Trainer::Ending::kStopped);
  memory.compare();
  log_info("results: {} (report.html, metrics.jsonl, checkpoints/, logs/{})",
           directory.path.string(), config.run.tensorboard ? ", tensorboard/" : "");
  return ending == Trainer::Ending::kStopped ? ExitCode::kStopped : ExitCode::kDone;
}

void add_train(CommandLine& line) {
  auto arguments = std::make_shared<TrainArguments>();
  auto verb = line.verb("train", "Train the model of a config, or go on with its run");
  arguments->add_to(verb);
  verb.option("--from", arguments->from, "DIR",
              "Start from the weights of another run: a run's folder or one of its checkpoints. "
              "Once this run has a checkpoint of its own, it goes on from that")
      .option("--progress", arguments->progress, "STYLE",
              "auto: a bar on a terminal, else lines; bar; lines; none")
      .flag("--trace-routing", arguments->trace_routing,
            "Keep in the run's folder which tokens and labels each expert takes in the last "
            "evaluation; for the report and `switchyard report routing`")
      .flag("--profile", arguments->profile,
            "Say at the end where the time went, by phase, and write trace.json into the run's "
            "folder, for chrome://tracing and Perfetto")
      .example("mpirun -np 2 switchyard train configs/quickstart.yaml")
      .runs([arguments] {
        catch_stop_signals();  // before the ranks wait for each other
        ExitCode code = ExitCode::kDone;
        run_in_job([&](Job& job) { code = train(*arguments, job); });
        return code;
      });
}

}  // namespace switchyard
