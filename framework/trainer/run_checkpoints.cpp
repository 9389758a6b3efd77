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

std::optional<Progress> RunCheckpoints::resume() {
  const std::optional<CheckpointEntry> latest = latest_checkpoint(options_.directory);
  if (!latest) return std::nullopt;
  const Checkpoint checkpoint = Checkpoint::open(latest->path);
  const Manifest& manifest = checkpoint.manifest();
  if (manifest.dataset_hash != options_.dataset_hash) {
    throw CheckpointError("the checkpoint was trained on another dataset", latest->path.string(),
                          "restore the dataset, or give the run another name");
  }
  if (manifest.seed != options_.seed ||
      manifest.sampler_position != manifest.step * options_.batch_sequences) {
    throw CheckpointError("the checkpoint's run had another seed or train.batch_sequences",
                          latest->path.string(),
                          "set them as in the checkpoint's config.yaml, or give the run another "
                          "name");
  }
  checkpoint.load(weights_, optimizer_.states(), *groups_.world);
  log_info("resuming after step {} from {}", manifest.step, latest->path.string());
  return Progress{manifest.step, manifest.tokens_seen};
}

Progress load_weights(const std::filesystem::path& path, const std::vector<Weight*>& weights,
                      Collectives& world) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  checkpoint.load(weights, world);
  return {checkpoint.manifest().step, checkpoint.manifest().tokens_seen};
}

}  // namespace switchyard
