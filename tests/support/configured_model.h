// The model of a config on one rank, and what it needs to run.
#pragma once

#include <memory>

#include "collectives/single.h"
#include "registry/make_model.h"
#include "trainer/workspace.h"

namespace switchyard::test {

class ConfiguredModel {
 public:
  ConfiguredModel(std::unique_ptr<Kernels> kernels, Config config, int64_t vocabulary)
      : config_(std::move(config)),
        world_(make_single_collectives()),
        groups_(make_groups(*world_, 1)),
        kernels_(std::move(kernels)),
        workspace_(*kernels_, groups_, 3),
        model_(make_model(config_, vocabulary, *kernels_, groups_)) {}

  Model& model() { return *model_; }
  const Config& config() const { return config_; }
  const Groups& groups() const { return groups_; }
  LayerContext context(bool training = false) { return workspace_.context(training, 5); }
  Memory& memory() { return kernels_->memory(); }
  void release() { workspace_.release(); }

 private:
  Config config_;
  std::unique_ptr<Collectives> world_;
  Groups groups_;
  std::unique_ptr<Kernels> kernels_;
  Workspace workspace_;
  std::unique_ptr<Model> model_;
};

}  // namespace switchyard::test
