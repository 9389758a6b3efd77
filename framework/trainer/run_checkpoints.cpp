#include "trainer/run_checkpoints.h"

#include "base/log.h"
#include "checkpoint/checkpoint.h"

namespace switchyard {

RunCheckpoints::RunCheckpoints(const Options& options, std::vector<Weight*> weights,
                               Optimizer& optimizer, const Groups& groups)
    : options_(options), weights_(std::move(weights)), optimizer_(optimizer), groups_(groups) {}

std::filesystem::path RunCheckpoints::save(const Progress& progress) {
  CheckpointState state;
  state.step = progress.steps;
  state.tokens_seen = progress.target_tokens;
  state.sampler_position = progress.steps * options_.batch_sequences;
  state.seed = options_.seed;
  state.config_text = options_.config_text;
  state.dataset_hash = options_.dataset_hash;
  state.tokenizer = options_.tokenizer;
  state.weights.assign(weights_.begin(), weights_.end());
  state.optimizer = optimizer_.states();
  return save_checkpoint(options_.directory, state, groups_,
                         {.run_id = options_.run_id, .keep = options_.keep});
}

Progress RunCheckpoints::start() {
  const std::optional<CheckpointEntry> latest = latest_checkpoint(options_.directory);
  if (latest) {
    if (!options_.from.empty()) {
      log_info("the run has a checkpoint of its own: it goes on, {} is left alone",
               options_.from.string());
    }
    return resume(latest->path);
  }
  if (!options_.from.empty()) {
    check_tokenizer();
    const Progress there = load_weights(options_.from, weights_, *groups_.world);
    log_info("starting from the weights of {}, after {} steps there", options_.from.string(),
             there.steps);
  }
  return Progress{};
}

Progress RunCheckpoints::resume(const std::filesystem::path& latest) {
  const Checkpoint checkpoint = Checkpoint::open(latest);
  const Manifest& manifest = checkpoint.manifest();
  if (manifest.dataset_hash != options_.dataset_hash) {
    throw CheckpointError("the checkpoint was trained on other data, or read in another way",
                          latest.string(),
                          "restore the datasets and the config's data section, or give the run "
                          "another name");
  }
  if (manifest.seed != options_.seed ||
      manifest.sampler_position != manifest.step * options_.batch_sequences) {
    throw CheckpointError("the checkpoint's run had another seed or train.batch_sequences",
                          latest.string(),
                          "set them as in the checkpoint's config.yaml, or give the run another "
                          "name");
  }
  checkpoint.load(weights_, optimizer_.states(), *groups_.world);
  log_info("resuming after step {} from {}", manifest.step, latest.string());
  return Progress{manifest.step, manifest.tokens_seen};
}

// Weights of an embedding table mean nothing to ids of another tokenizer.
void RunCheckpoints::check_tokenizer() const {
  if (options_.tokenizer.empty()) return;
  const Checkpoint there = Checkpoint::open(options_.from);
  if (!there.manifest().file(kCheckpointTokenizer)) return;
  if (digest_of(there.read_file(kCheckpointTokenizer)) != digest_of_file(options_.tokenizer)) {
    throw CheckpointError("the checkpoint was trained with another tokenizer than the dataset's",
                          options_.from.string(),
                          "build the dataset with data.tokenizer.model: " +
                              (options_.from / kCheckpointTokenizer).string());
  }
}

Progress load_weights(const std::filesystem::path& path, const std::vector<Weight*>& weights,
                      Collectives& world) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  checkpoint.load(weights, world);
  return {checkpoint.manifest().step, checkpoint.manifest().tokens_seen};
}

}  // namespace switchyard
