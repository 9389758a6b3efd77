#include "trainer/run_checkpoints.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "base/log.h"
#include "checkpoint/agree.h"
#include "checkpoint/directory.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

// A run's name as a part of file names.
std::string plain(std::string name) {
  if (name.size() > 64) name.resize(64);
  std::ranges::replace_if(
      name,
      [](char c) {
        return !is_shard_name(std::string{'a', c});
      },
      '_');
  return is_shard_name(name) ? name : "_" + name;
}

}  // namespace

RunCheckpoints::RunCheckpoints(const Options& options, std::vector<Weight*> weights,
                               Optimizer& optimizer, const Groups& groups)
    : options_(options), weights_(std::move(weights)), optimizer_(optimizer), groups_(groups) {}

// Made once it is known which checkpoints are damaged.
CheckpointSaver& RunCheckpoints::saver() {
  if (saver_) return *saver_;
  CheckpointState state;
  state.seed = options_.seed;
  state.config_text = options_.config_text;
  state.dataset_hash = options_.dataset_hash;
  state.tokenizer = options_.tokenizer;
  state.weights.assign(weights_.begin(), weights_.end());
  state.optimizer = optimizer_.states();
  const SaveOptions options{.run_id = plain(options_.run_id),
                            .keep = options_.keep,
                            .keep_every = options_.keep_every,
                            .damaged = damaged_};
  return saver_.emplace(options_.directory, std::move(state), groups_, options);
}

void RunCheckpoints::save(const Progress& progress) {
  finish();
  const CheckpointPosition position{.step = progress.steps,
                                    .tokens_seen = progress.target_tokens,
                                    .sampler_position = progress.steps * options_.batch_sequences};
  if (options_.async) {
    saver().start(position);
  } else {
    log_info("checkpoint {}", saver().save(position).string());
  }
  last_step_ = progress.steps;
}

void RunCheckpoints::poll() {
  if (!saver_) return;
  if (const auto whole = saver_->poll()) log_info("checkpoint {}", whole->string());
}

void RunCheckpoints::finish() {
  if (!saver_) return;
  if (const auto whole = saver_->finish()) log_info("checkpoint {}", whole->string());
}

// As rank 0 sees the directory, also those that aren't whole; in rising order.
std::vector<int64_t> RunCheckpoints::saved_steps() const {
  Collectives& world = *groups_.world;
  std::string steps;
  run_and_agree(world, [&] {
    if (world.rank() != 0) return;
    std::vector<std::string> names;
    const int error = FileSystem::real().list(options_.directory, names);
    if (error != 0 && error != ENOENT) {
      throw_file_error(error, "cannot read the directory", options_.directory);
    }
    for (const std::string& name : names) {
      if (const auto step = step_of(name)) steps += fmt::format("{} ", *step);
    }
  });
  std::istringstream in(gather_texts(world, steps).front());
  std::vector<int64_t> sorted;
  for (int64_t step = 0; in >> step;) sorted.push_back(step);
  std::ranges::sort(sorted);
  return sorted;
}

Progress RunCheckpoints::start() {
  std::vector<int64_t> steps = saved_steps();
  for (; !steps.empty(); steps.pop_back()) {
    const Path newest = options_.directory / step_name(steps.back());
    try {
      const Progress progress = resume(newest);
      if (options_.async) saver().reserve();
      return progress;
    } catch (const CheckpointMisfit&) {
      throw;
    } catch (const Error& error) {  // on all ranks alike, see run_and_agree
      if (error.exit_code() != ExitCode::kBadCheckpoint) throw;
      const bool oldest = steps.size() == 1;
      if (oldest || !options_.fallback) {
        throw CheckpointError(
            error.summary(), error.where(),
            oldest ? "no older checkpoint is left: restore this one, or give the run another name"
                   : "restore it, or set checkpoint.fallback: true to go on from " +
                         step_name(steps[steps.size() - 2]));
      }
      log_warning("checkpoint {} is passed over: {} ({})", newest.string(), error.summary(),
                  error.where());
      damaged_.push_back(steps.back());
    }
  }
  if (!options_.from.empty()) {
    check_tokenizer();
    const Progress there =
        load_weights(options_.from, weights_, *groups_.world, {.partial = options_.partial});
    log_info("starting from the weights of {}, after {} steps there", options_.from.string(),
             there.steps);
  } else {
    log_info("starting from initial weights, seed {}", options_.seed);
  }
  if (options_.async) saver().reserve();
  return Progress{};
}

Progress RunCheckpoints::resume(const Path& path) {
  Collectives& world = *groups_.world;
  std::optional<Checkpoint> checkpoint;
  run_and_agree(world, [&] {
    checkpoint = Checkpoint::open(path);
    check_same_run(*checkpoint);
  });
  checkpoint->load(weights_, optimizer_.states(), world);
  const Manifest& manifest = checkpoint->manifest();
  if (!options_.from.empty()) {
    log_info("the run has a checkpoint of its own: it goes on, {} is left alone",
             options_.from.string());
  }
  log_info("resuming after step {} from {}", manifest.step, path.string());
  last_step_ = manifest.step;
  return Progress{manifest.step, manifest.tokens_seen};
}

void RunCheckpoints::check_same_run(const Checkpoint& checkpoint) const {
  const Manifest& manifest = checkpoint.manifest();
  if (manifest.dataset_hash != options_.dataset_hash) {
    throw CheckpointMisfit("the checkpoint was trained on other data, or read in another way",
                           checkpoint.path().string(),
                           "restore the datasets and the config's data section, or give the run "
                           "another name");
  }
  if (manifest.seed != options_.seed ||
      manifest.sampler_position != manifest.step * options_.batch_sequences) {
    throw CheckpointMisfit("the checkpoint's run had another seed or train.batch_sequences",
                           checkpoint.path().string(),
                           "set them as in the checkpoint's config.yaml, or give the run another "
                           "name");
  }
}

// Weights of an embedding table mean nothing to ids of another tokenizer.
void RunCheckpoints::check_tokenizer() const {
  if (options_.tokenizer.empty()) return;
  const Checkpoint there = Checkpoint::open(options_.from);
  if (!there.manifest().file(kCheckpointTokenizer)) return check_vocabulary(there);
  if (digest_of(there.read_file(kCheckpointTokenizer)) != digest_of_file(options_.tokenizer)) {
    throw CheckpointError("the checkpoint was trained with another tokenizer than the dataset's",
                          options_.from.string(),
                          "build the dataset with data.tokenizer.model: " +
                              (options_.from / kCheckpointTokenizer).string());
  }
}

// A checkpoint without a tokenizer can't say what its ids mean. Its table has just as many rows as
// there are ids, but for padding, where the dataset's tokenizer is its own.
void RunCheckpoints::check_vocabulary(const Checkpoint& there) const {
  constexpr int64_t kPadding = 128;
  for (const Weight* weight : weights_) {
    if (weight->role() != WeightRole::kEmbedding || !there.contains(weight->name())) continue;
    const auto rows = static_cast<int64_t>(there.tensor(weight->name()).shape.front());
    const std::string ids =
        fmt::format("{} ids for the {} rows of its {}", options_.vocabulary, rows, weight->name());
    if (rows < options_.vocabulary || rows - options_.vocabulary >= kPadding) {
      throw CheckpointError(
          "the checkpoint has no tokenizer, and the dataset's is another model's: " + ids,
          options_.from.string(),
          "build the dataset with the model's own SentencePiece file (data.tokenizer.model), or "
          "from ids that its tokenizer makes (data.vocabulary)");
    }
    log_warning("{} has no tokenizer: the dataset's is taken for its own, {}",
                options_.from.string(), ids);
  }
}

Progress load_weights(const Path& path, const std::vector<Weight*>& weights, Collectives& world,
                      const LoadOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  checkpoint.load(weights, world, options);
  return {checkpoint.manifest().step, checkpoint.manifest().tokens_seen};
}

}  // namespace switchyard
