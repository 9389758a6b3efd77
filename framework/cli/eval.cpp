#include "base/errors.h"
#include "base/log.h"
#include "cli/metric_sinks.h"
#include "cli/verbs.h"
#include "report/console_sink.h"

namespace switchyard {

namespace {

struct EvalArguments : ConfigArguments {
  std::string from;
  std::string trace_routing;  // a file
  bool shuffle_inputs = false;
};

void evaluate(const EvalArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const Config config = arguments.load();
  const int threads = resolve_threads(config, job.ranks_on_this_node());
  const std::unique_ptr<RunData> data = RunData::open(config);
  if (arguments.shuffle_inputs && data->validation->causal()) {
    throw ConfigError("--shuffle-inputs needs an encoder, which " + config.model.type + " has not",
                      config.origins.of({"model.type"}), "leave it out");
  }
  RunParts parts(config, resolve_vocabulary(config, *data), world, threads);
  announce(config, parts, *data, threads);
  const std::filesystem::path checkpoint = checkpoint_at(
      arguments.from.empty() ? run_directory(config).path : std::filesystem::path(arguments.from));
  const Progress progress = load_weights(checkpoint, parts.weights, world);
  log_info("checkpoint {}", checkpoint.string());
  const std::string& trace = arguments.trace_routing;
  const EvaluationRecord record =
      make_evaluator(config, parts, *data, {arguments.shuffle_inputs, !trace.empty()})
          .run(progress.steps);
  ConsoleSink({.total_steps = progress.steps}).evaluation(record);
  if (trace.empty() || world.rank() != 0) return;
  make_routing_trace_sink(trace, *data)->evaluation(record);
  log_info("routing trace: {}", trace);
}

}  // namespace

void add_eval(CommandLine& line) {
  auto arguments = std::make_shared<EvalArguments>();
  auto verb = line.verb("eval", "Evaluate a checkpoint on the validation set");
  arguments->add_to(verb);
  verb.option("--from", arguments->from, "DIR",
              "A run's folder or one of its checkpoints; default: the latest of the config's run")
      .flag("--shuffle-inputs", arguments->shuffle_inputs,
            "Give each sequence another one's encoder inputs: a model that makes use of them gets "
            "worse")
      .option("--trace-routing", arguments->trace_routing, "FILE",
              "Write which tokens and labels each expert takes; `switchyard report routing` shows "
              "it")
      .example("mpirun -np 2 switchyard eval configs/quickstart.yaml --shuffle-inputs")
      .runs([arguments] { run_in_job([&](Job& job) { evaluate(*arguments, job); }); });
}

}  // namespace switchyard
