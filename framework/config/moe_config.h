// `moe:` which layers are mixtures of experts and how tokens come to their experts.
// The words mean what docs/semantics.md says.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "config/choice.h"
#include "config/layer_set.h"

namespace switchyard {

class Fields;

struct CapacityConfig {
  enum class Rounding { kCeil, kFloor };
  enum class Overflow { kDrop, kReroute, kDropless };
  enum class Priority { kPosition, kProbability, kRandom };

  double train_factor = 1.25;
  double eval_factor = 2.0;
  int64_t min_tokens = 4;
  Rounding rounding = Rounding::kCeil;
  std::optional<int64_t> tokens;  // set: this is the capacity; the four keys above have no say
  bool padding_takes_capacity = false;
  Overflow overflow = Overflow::kDrop;
  std::optional<int64_t> max_tokens_per_round;  // empty: everything in one round
  Priority priority = Priority::kPosition;

  void describe(Fields& f);
};

struct LoadBalanceConfig {
  enum class Scope { kGroup, kGlobal };

  double coef = 0.01;
  Scope scope = Scope::kGroup;
  bool two_pass = false;

  void describe(Fields& f);
};

struct RouterZConfig {
  double coef = 0.0;

  void describe(Fields& f);
};

struct ImportanceConfig {
  double coef = 0.0;

  void describe(Fields& f);
};

struct LoadConfig {
  double coef = 0.0;

  void describe(Fields& f);
};

struct MoeLossesConfig {
  LoadBalanceConfig load_balance;
  RouterZConfig router_z;
  ImportanceConfig importance;
  LoadConfig load;

  void describe(Fields& f);
};

// A layer whose mixture has another number of experts (a pyramid, Rajbhandari 2022).
struct LayerExpertsConfig {
  int64_t layer = 0;
  int64_t experts = 8;

  void describe(Fields& f);
};

// The mixtures of one stack of blocks.
struct MoeStackConfig {
  LayerSet layers = LayerSet::every(2);
  std::vector<LayerExpertsConfig> pyramid;  // layers not named here: moe.experts
  Choice router{"switch"};
  std::optional<CapacityConfig> capacity;  // empty: as moe.capacity

  // Of a decoder-only model, which has no capacity beside moe.capacity.
  void describe(Fields& f);
  // Of an encoder or decoder.
  //   shared  moe.capacity, from which keys left out of `capacity` are taken
  void describe(Fields& f, const CapacityConfig& shared);
};

struct MoeConfig {
  enum class Dispatch { kAllToAll, kAllGather, kHierarchical };
  enum class WireDtype { kSame, kBFloat16 };

  int64_t experts = 8;
  int64_t shared_experts = 0;
  bool residual = false;
  std::optional<double> expert_dropout;    // empty: see resolve_expert_dropout in config/resolve.h
  std::optional<int64_t> group_sequences;  // empty: see resolve_group_sequences in config/resolve.h
  Dispatch dispatch = Dispatch::kAllToAll;
  int64_t overlap_chunks = 1;
  WireDtype wire_dtype = WireDtype::kSame;
  CapacityConfig capacity;
  MoeLossesConfig losses;
  MoeStackConfig encoder;
  MoeStackConfig decoder;
  MoeStackConfig decoder_only;  // its keys stand in moe itself; see stacks_of in config/resolve.h

  // Of the mixture in a layer of the stack.
  int64_t experts_of(const MoeStackConfig& stack, int64_t layer) const;
  // Of the stack's mixture that has the fewest.
  int64_t fewest_experts(const MoeStackConfig& stack) const;
  const CapacityConfig& capacity_of(const MoeStackConfig& stack) const {
    return stack.capacity ? *stack.capacity : capacity;
  }

  //   in_decoder_only  whether model.type is one
  void describe(Fields& f, bool in_decoder_only);
};

}  // namespace switchyard
