// Planted bugs of the config, the samples and the random numbers: what a rank starts from.
#pragma once

#include "verify/planted_bugs.h"

namespace switchyard {

// Whether a step draws random numbers.
bool draws_random_numbers(const PlantingPlace& at);
// Whether two ranks or micro-batches of a step have different numbers of target tokens.
bool targets_differ(const PlantingPlace& at);

class ScaledAuxiliaryLosses : public RunHooks {
  void change_config(Config& config, int rank, int ranks) override;
};

class GroupsByRank : public RunHooks {
  void change_config(Config& config, int rank, int ranks) override;
};

class InitialByRank : public RunHooks {
  void change_config(Config& config, int rank, int ranks) override;
};

class SeedByRank : public RunHooks {
  uint64_t step_seed(uint64_t seed, int rank) override;
};

class SamplesOfRank0 : public RunHooks {
 public:
  explicit SamplesOfRank0(const PlantingPlace& at);

 private:
  std::unique_ptr<TokenSource> replace_source(const TokenSource& source, int rank,
                                              int ranks) override;
  BatchLayout layout_;
};

}  // namespace switchyard
