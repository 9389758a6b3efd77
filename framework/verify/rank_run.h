// One rank's training of one case, watched: after each step it tells what is there to compare.
#pragma once

#include "trainer/train_step.h"
#include "trainer/workspace.h"
#include "verify/routing_tap.h"

namespace switchyard {

// A config in a layout.
struct VerifyCase {
  std::string name;  // "4x2", "4x2, 3 micro-batches"
  Config config;     // parallel.expert says the expert group
  int ranks = 1;
};

class RankRun {
 public:
  // Every rank calls it.
  //   source   outlives it
  //   threads  of this rank's team
  RankRun(const VerifyCase& tested, const TokenSource& source, int64_t vocabulary,
          Collectives& world, int threads, std::unique_ptr<RunHooks> hooks);

  // Weights and optimizer state.
  Snapshot state();
  // Goes on from another run's.
  //   state  whole; also holds other items
  void start_from(const Snapshot& state);

  struct Step {
    Snapshot items;  // all there is to compare, in the order of the step
    double learning_rate = 0;
  };
  // Every rank calls it.
  //   reference  see RoutingTap
  Step step(int64_t number, const Snapshot* reference);

  int64_t near_ties() const { return tap_.near_ties(); }

 private:
  static Config changed(Config config, RunHooks& hooks, const Collectives& world);
  static RunParts& connected(RunParts& parts, RunHooks& hooks);

  std::unique_ptr<RunHooks> hooks_;
  Config config_;
  std::unique_ptr<TokenSource> replaced_source_;
  RunParts parts_;
  std::vector<GlobalTensor> weights_, states_;
  RoutingTap tap_;
  TrainStep step_;
  Workspace workspace_;
};

}  // namespace switchyard
