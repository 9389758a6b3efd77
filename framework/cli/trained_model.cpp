#include "cli/trained_model.h"

#include <fmt/format.h>

#include <memory>

#include "checkpoint/agree.h"
#include "cli/training_run.h"
#include "conversion/model_source.h"
#include "registry/choices.h"

namespace switchyard {

void free_of_layout(Config& config) {
  config.parallel.expert.reset();
  config.parallel.expert_tensor = 1;
  config.moe.dispatch = MoeConfig::Dispatch::kAllToAll;
  config.train.reduction = TrainConfig::Reduction::kFast;
}

static TrainedModel open_own(const std::filesystem::path& path,
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

static TrainedModel open_foreign(const std::filesystem::path& path,
                                 const std::vector<std::string>& overrides) {
  auto source = std::make_shared<ModelSource>(
      open_hugging_face(path, overrides, choice_tables(), FileSystem::real()));
  TrainedModel model;
  model.config = source->config;
  model.vocabulary = source->vocabulary;
  model.description = fmt::format("{} {}", source->description, path.string());
  model.load = [source](const std::vector<Weight*>& weights, Collectives& world) {
    run_and_agree(world, [&] { fill_weights(*source, weights); });
  };
  return model;
}

TrainedModel open_trained_model(const std::filesystem::path& path,
                                const std::vector<std::string>& overrides) {
  TrainedModel model = is_hugging_face(path, FileSystem::real())
                           ? open_foreign(path, overrides)
                           : open_own(checkpoint_at(path), overrides);
  free_of_layout(model.config);
  return model;
}

}  // namespace switchyard
