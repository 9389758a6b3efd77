#include "cli/trained_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/training_run.h"
#include "registry/choices.h"

namespace switchyard {

void free_of_layout(Config& config) {
  config.parallel.expert.reset();
  config.parallel.expert_tensor = 1;
  config.moe.dispatch = MoeConfig::Dispatch::kAllToAll;
  config.train.reduction = TrainConfig::Reduction::kFast;
}

int64_t vocabulary_of(const Checkpoint& checkpoint, const Config& config) {
  const char* name = config.model.is_decoder_only() ? "embedding" : "shared_embedding";
  const std::vector<ManifestTensor>& tensors = checkpoint.manifest().tensors;
  const auto found = std::ranges::find(tensors, name, &ManifestTensor::name);
  if (found == tensors.end() || found->shape.size() != 2) {
    throw CheckpointError(fmt::format("the checkpoint has no table {}: it isn't one of a {}", name,
                                      config.model.type),
                          checkpoint.path().string(), "name the config that it was trained with");
  }
  return static_cast<int64_t>(found->shape[0]);
}

static TrainedModel open_checkpoint(const std::filesystem::path& path,
                                    const std::vector<std::string>& overrides) {
  auto checkpoint = std::make_shared<Checkpoint>(Checkpoint::open(path));
  TrainedModel model;
  model.config = parse_config(checkpoint->read_file("config.yaml"), (path / "config.yaml").string(),
                              overrides, choice_tables());
  model.vocabulary = vocabulary_of(*checkpoint, model.config);
  model.description = "checkpoint " + path.string();
  model.load = [checkpoint](const std::vector<Weight*>& weights, Collectives& world) {
    checkpoint->load(weights, world);
  };
  return model;
}

TrainedModel open_trained_model(const std::filesystem::path& path,
                                const std::vector<std::string>& overrides) {
  TrainedModel model = open_checkpoint(checkpoint_at(path), overrides);
  free_of_layout(model.config);
  return model;
}

}  // namespace switchyard
