#include <algorithm>

#include "base/log.h"
#include "base/timer.h"
#include "cli/verbs.h"
#include "registry/run_data.h"
#include "verify/layout_list.h"
#include "verify/planted_bugs.h"
#include "verify/table.h"
#include "verify/verifier.h"

namespace switchyard {

namespace {

struct VerifyArguments : ConfigArguments {
  std::string layouts = "1,2,4x2";
  std::string micro_batches;  // empty: the config's
  std::string steps = "5";
  std::string bug;

  // Every layout at every number of micro-batches, the reference first.
  std::vector<VerifyCase> cases() const;

 private:
  VerifyCase make_case(const VerifyLayout& layout, const std::string& parts) const;
};

VerifyCase VerifyArguments::make_case(const VerifyLayout& layout, const std::string& parts) const {
  ConfigArguments arguments = *this;
  arguments.overrides.push_back(fmt::format("parallel.expert={}", layout.expert_group));
  arguments.overrides.push_back(fmt::format("parallel.expert_tensor={}", layout.expert_tensor));
  std::string name = layout.text();
  if (!parts.empty()) {
    arguments.overrides.push_back("train.micro_batches=" + parts);
    name += " in " + parts;
  }
  return {.name = name, .config = arguments.load(), .ranks = layout.ranks};
}

std::vector<VerifyCase> VerifyArguments::cases() const {
  std::vector<VerifyCase> all;
  for (const VerifyLayout& layout : parse_layouts(layouts)) {
    for (const std::string& parts : split_list(micro_batches)) {
      VerifyCase one = make_case(layout, parts);
      const bool repeated = std::any_of(
          all.begin(), all.end(), [&](const VerifyCase& other) { return other.name == one.name; });
      if (!repeated) all.push_back(std::move(one));
    }
  }
  if (all.size() < 2) {
    throw ConfigError("there is nothing to compare " + all.front().name + " with", "",
                      "name two layouts or more: --layouts 1,2,4x2");
  }
  return all;
}

// One call of the verb, on one process.
class Verification {
 public:
  Verification(const VerifyArguments& arguments, Job& job)
      : cases_(arguments.cases()),
        steps_(std::max<int64_t>(1, parse_count("--steps", arguments.steps))),
        pool_(make_pool(cases_.front().config, job)),
        data_(RunData::open(cases_.front().config)),
        verifier_(*data_->training, *pool_, resolve_vocabulary(cases_.front().config, *data_),
                  steps_) {
    for (const VerifyCase& one : cases_) {
      tolerance_of(one.config);  // throws where there is none
      if (one.ranks > pool_->ranks()) {
        throw ConfigError(fmt::format("layout {} needs {} ranks, there are {}", one.name, one.ranks,
                                      pool_->ranks()),
                          "--layouts", pool_->advice());
      }
    }
  }

  // Without a bug, or with one wherever it can occur. Throws where a layout differs.
  void compare_all(const PlantedBug* bug);
  // Every bug in the first layout where it can occur. Throws where one isn't found.
  void find_all_bugs();

 private:
  static std::unique_ptr<RankPool> make_pool(const Config& config, Job& job) {
    if (job.world().size() > 1) {
      return make_world_pool(job.world(), resolve_threads(config, job.ranks_on_this_node()));
    }
    return make_threaded_pool(resolve_threads(config, 1));
  }
  PlantingPlace place_of(const VerifyCase& one) const {
    return {one.config, one.ranks, *data_->training, steps_};
  }
  void run_reference();
  std::string find(const PlantedBug& bug);

  std::vector<VerifyCase> cases_;
  int64_t steps_;
  std::unique_ptr<RankPool> pool_;
  std::unique_ptr<RunData> data_;
  Verifier verifier_;
};

void Verification::run_reference() {
  const VerifyCase& reference = cases_.front();
  const Tolerance tolerance = tolerance_of(reference.config);
  log_info("{} steps of {} from {}, reference layout {}: {}", steps_, reference.config.name,
           data_->description(), reference.name,
           tolerance.exact ? "every bit must be equal"
                           : fmt::format("differences up to {:.0e} of a tensor's largest value",
                                         tolerance.relative));
  const Timer timer;
  verifier_.run_reference(reference);
  log_info("layout {}: reference ({:.1f} s)", reference.name, timer.seconds());
}

void Verification::compare_all(const PlantedBug* bug) {
  std::string reason;  // why it can't occur
  size_t planted = 0;
  std::vector<bool> has_bug(cases_.size());
  for (size_t i = 1; bug != nullptr && i < cases_.size(); ++i) {
    const std::string why = bug->impossible(place_of(cases_[i]));
    has_bug[i] = why.empty();
    planted += has_bug[i];
    if (!why.empty()) reason = why;
  }
  if (bug != nullptr && planted == 0) {
    throw ConfigError("the bug " + bug->name + " can't occur here: " + reason,
                      "--inject " + bug->name, "it is: " + bug->what);
  }
  run_reference();
  std::vector<NamedComparison> results;
  for (size_t i = 1; i < cases_.size(); ++i) {
    const VerifyCase& one = cases_[i];
    const Timer timer;
    const Comparison result =
        verifier_.compare(one, has_bug[i] ? bug->hooks(place_of(one)) : Verifier::MakeHooks());
    log_info("layout {}{}: {} ({:.1f} s)", one.name, has_bug[i] ? " with " + bug->name : "",
             result.failure ? "differs" : "agrees", timer.seconds());
    results.push_back({one.name, result});
  }
  log_info("\n{}", comparison_table(results));
  for (const NamedComparison& one : results) {
    if (!one.result.failure) continue;
    throw Error(ExitCode::kLayoutsDiffer,
                fmt::format("layout {} differs from {}: {}", one.name, cases_.front().name,
                            one.result.failure->what),
                switchyard::place_of(*one.result.failure),
                "train in a layout that agrees, and please report this with the config");
  }
  log_info("all layouts agree with {}", cases_.front().name);
}

std::string Verification::find(const PlantedBug& bug) {
  std::string reason;
  for (size_t i = 1; i < cases_.size(); ++i) {
    const VerifyCase& one = cases_[i];
    reason = bug.impossible(place_of(one));
    if (!reason.empty()) continue;
    const std::string start = fmt::format("{:22}{:6}", bug.name, one.name);
    try {
      const Comparison result = verifier_.compare(one, bug.hooks(place_of(one)));
      if (!result.failure) return start + "NOT FOUND";
      return fmt::format("{}found by {}: {} ({})", start, name_of(result.failure->check),
                         result.failure->what, switchyard::place_of(*result.failure));
    } catch (const Error& error) {  // of the program's own checks
      return fmt::format("{}found by its own check: {} ({})", start, error.summary(),
                         error.where());
    }
  }
  return fmt::format("{:22}can't occur: {}", bug.name, reason);
}

void Verification::find_all_bugs() {
  run_reference();
  std::string missed;
  for (const PlantedBug& bug : planted_bugs()) {
    const std::string line = find(bug);
    log_info(std::string_view(line));
    if (line.ends_with("NOT FOUND")) missed += (missed.empty() ? "" : ", ") + bug.name;
  }
  if (!missed.empty()) {
    throw Error(ExitCode::kDefect, "verify doesn't find " + missed, "--inject all",
                "please report this with the config");
  }
}

void verify(const VerifyArguments& arguments, Job& job) {
  set_process_speaks(job.world().rank() == 0);
  const bool all = arguments.bug == "all";
  if (all && job.world().size() > 1) {
    throw ConfigError("--inject all needs ranks that outlive an error: threads", "--inject all",
                      "leave mpirun out, or name one bug");
  }
  const PlantedBug* bug = all || arguments.bug.empty() ? nullptr : &planted_bug(arguments.bug);
  Verification verification(arguments, job);
  all ? verification.find_all_bugs() : verification.compare_all(bug);
}

}  // namespace

void add_verify(CommandLine& line) {
  auto arguments = std::make_shared<VerifyArguments>();
  auto verb = line.verb("verify", "Train the same steps in several layouts and compare everything");
  arguments->add_to(verb);
  verb.option(
          "--layouts", arguments->layouts, "LIST",
          "N ranks, NxP for expert groups of P, NxPxT for experts in T slices; the first is the "
          "reference; default 1,2,4x2")
      .option("--micro-batches", arguments->micro_batches, "LIST",
              "Runs each layout at each of these numbers; default: the config's")
      .option("--steps", arguments->steps, "N", "Steps of each layout; default 5")
      .option("--inject", arguments->bug, "BUG",
              "Plants a known bug into the other layouts, which must be found; all: one by one")
      .example("switchyard verify configs/tiny.yaml --layouts 1,2,4x2 --micro-batches 1,2")
      .runs([arguments] { run_in_job([&](Job& job) { verify(*arguments, job); }); });
}

}  // namespace switchyard
