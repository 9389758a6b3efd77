#include <fstream>

#include "base/directory_lock.h"
#include "base/log.h"
#include "cli/training_run.h"
#include "cli/verbs.h"
#include "report/console_sink.h"
#include "report/html_report.h"
#include "report/jsonl_sink.h"
#include "trainer/trainer.h"

namespace switchyard {

static void make_run_directory(const RunDirectory& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.path, error);
  if (error) {
    throw SpaceError("cannot make the run directory: " + error.message(), directory.path.string(),
                     "make it writable or set run.dir");
  }
}

static DirectoryLock lock_run_directory(const RunDirectory& directory) {
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

// What goes wrong with the report is said and changes nothing about the run: `switchyard report`
// can make it again. A run that failed before its first step has nothing to report.
static void make_report(const RunDirectory& directory, int ranks, bool failed) {
  try {
    log_info("report: {}", write_html_report(directory.path).string());
  } catch (const Error& error) {
    if (!failed || error.exit_code() != ExitCode::kBadData) print_error(error, 0, ranks);
  } catch (const std::exception& error) {
    print_error(Error(ExitCode::kDefect, error.what()), 0, ranks);
  }
}

struct TrainArguments : ConfigArguments {
  std::string from;
};

static void train(const TrainArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const Config config = arguments.load();
  const int threads = resolve_threads(config, job.ranks_on_this_node());
  const std::unique_ptr<RunData> data = RunData::open(config);
  RunParts parts(config, resolve_vocabulary(config, data->dataset), world, threads);
  announce(config, parts, *data, threads);

  const RunDirectory directory = run_directory(config);
  std::optional<DirectoryLock> lock;
  std::vector<std::unique_ptr<MetricSink>> sinks;
  std::vector<MetricSink*> borrowed;
  if (world.rank() == 0) {
    make_run_directory(directory);
    lock.emplace(lock_run_directory(directory));
    write_config(config, directory);
    sinks.push_back(std::make_unique<ConsoleSink>(config.train.log_every, config.train.steps));
    sinks.push_back(std::make_unique<JsonlSink>(directory.metrics()));
    for (const auto& sink : sinks) borrowed.push_back(sink.get());
  }
  world.barrier();  // the directory is there

  const auto seed = static_cast<uint64_t>(config.seed);
  TrainStep step({*parts.kernels, parts.groups, *parts.model, *parts.optimizer, *parts.schedule,
                  data->training},
                 {.layout = parts.layout,
                  .seed = seed,
                  .clip_norm = config.train.clip_norm,
                  .skip_nonfinite = config.train.on_nonfinite == TrainConfig::OnNonfinite::kSkip});
  Evaluator evaluator = make_evaluator(config, parts, *data, false);
  RunCheckpoints checkpoints({.directory = directory.checkpoints(),
                              .run_id = config.name,
                              .keep = config.train.keep_checkpoints,
                              .config_text = to_yaml(config),
                              .dataset_hash = data->dataset.digest(),
                              .tokenizer = data->dataset.directory() / kTokenizerFile,
                              .from = checkpoint_at(arguments.from),
                              .seed = seed,
                              .batch_sequences = config.train.batch_sequences},
                             parts.weights, *parts.optimizer, parts.groups);
  Trainer trainer(step, evaluator, checkpoints, borrowed,
                  {.steps = config.train.steps,
                   .evaluate_every = config.train.evaluate_every,
                   .checkpoint_every = config.train.checkpoint_every,
                   .start = start_record(config, parts, threads)});
  const bool reports = world.rank() == 0;
  try {
    trainer.run();
  } catch (...) {
    if (reports) make_report(directory, world.size(), true);
    throw;
  }
  if (reports) make_report(directory, world.size(), false);
  log_info("results: {} (report.html, metrics.jsonl, checkpoints/)", directory.path.string());
}

void add_train(CommandLine& line) {
  auto arguments = std::make_shared<TrainArguments>();
  auto verb = line.verb("train", "Train the model of a config, or go on with its run");
  arguments->add_to(verb);
  verb.option("--from", arguments->from, "DIR",
              "Start from the weights of another run: a run's folder or one of its checkpoints. "
              "Once this run has a checkpoint of its own, it goes on from that")
      .example("mpirun -np 2 switchyard train configs/quickstart.yaml")
      .runs([arguments] { run_in_job([&](Job& job) { train(*arguments, job); }); });
}

}  // namespace switchyard
