#include "verify/bugs_in_inputs.h"

#include <algorithm>

#include "config/resolve.h"
#include "moe/router.h"
#include "trainer/micro_batch.h"

namespace switchyard {

bool draws_random_numbers(const PlantingPlace& at) {
  const Config& config = at.config;
  if (config.model.dropout > 0) return true;
  if (!at.has_mixtures()) return false;
  const auto random = [&](const StackConfig& stack) {
    if (stack.moe->layers.is_none()) return false;
    return config.moe.capacity_of(*stack.moe).priority == CapacityConfig::Priority::kRandom ||
           stack.moe->router.as<RouterOptions>().is_random();
  };
  return resolve_expert_dropout(config) > 0 || std::ranges::any_of(stacks_of(config), random);
}

bool targets_differ(const PlantingPlace& at) {
  const BatchLayout layout = training_layout(at.config, at.ranks);
  for (int64_t step = 0; step < at.steps; ++step) {
    const int64_t first = step * layout.sequences;
    const int64_t targets = MicroBatch(at.source, layout, 0, 0, first).target_tokens();
    for (int64_t micro = 0; micro < layout.micro_batches; ++micro) {
      for (int64_t rank = 0; rank < layout.ranks; ++rank) {
        if (MicroBatch(at.source, layout, micro, rank, first).target_tokens() != targets) {
          return true;
        }
      }
    }
  }
  return false;
}

void ScaledAuxiliaryLosses::change_config(Config& config, int, int ranks) {
  config.moe.losses.load_balance.coef *= ranks;
  config.moe.losses.router_z.coef *= ranks;
}

void GroupsByRank::change_config(Config& config, int, int ranks) {
  config.moe.group_sequences = config.train.batch_sequences / (ranks * config.train.micro_batches);
}

void InitialByRank::change_config(Config& config, int rank, int) { config.seed += rank; }

uint64_t SeedByRank::step_seed(uint64_t seed, int rank) {
  return seed + static_cast<uint64_t>(rank);
}

namespace {

// Reads from the part of the global batch that rank 0 has.
class Rank0Source : public TokenSource {
 public:
  //   rows  of rank 0 in a global batch
  Rank0Source(const TokenSource& source, int64_t batch, int64_t rows)
      : source_(source), batch_(batch), rows_(rows) {}

  bool causal() const override { return source_.causal(); }
  int inputs_width() const override { return source_.inputs_width(); }
  int targets_width() const override { return source_.targets_width(); }
  const Vocabulary& vocabulary() const override { return source_.vocabulary(); }
  const std::vector<std::string>& label_names() const override { return source_.label_names(); }
  int64_t epoch_size() const override { return source_.epoch_size(); }
  void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const override {
    std::vector<int64_t> indices(global_indices.begin(), global_indices.end());
    for (int64_t& index : indices) index = index / batch_ * batch_ + index % batch_ % rows_;
    source_.fill(indices, batch);
  }

 private:
  const TokenSource& source_;
  int64_t batch_, rows_;
};

}  // namespace

SamplesOfRank0::SamplesOfRank0(const PlantingPlace& at)
    : layout_(training_layout(at.config, at.ranks)) {}

std::unique_ptr<TokenSource> SamplesOfRank0::replace_source(const TokenSource& source, int, int) {
  const int64_t groups = layout_.groups_of(0, 0).size();
  return std::make_unique<Rank0Source>(source, layout_.sequences, groups * layout_.group_sequences);
}

}  // namespace switchyard
