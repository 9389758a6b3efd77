// A MoE layer with its inputs, on one rank of a job: what most tests of this folder run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moe/moe_layer.h"
#include "moe/top_k_router.h"
#include "support/batch_rows.h"
#include "support/layer_rank.h"

namespace switchyard::test {

// How rows travel. No way of it may change a result, but for wire_bfloat16, which rounds.
struct Travel {
  enum class Kind { kAllToAll, kAllGather, kHierarchical };

  Kind kind = Kind::kAllToAll;
  int64_t chunks = 1;
  std::optional<int64_t> max_rows_per_round = {};
  bool wire_bfloat16 = false;

  Exchange::Options options() const;
  // A divisor of the group's size, so that there are several nodes of several ranks where that can
  // be; 0 where the kind asks for none.
  int ranks_per_node(int expert_group_size) const;
};

inline void PrintTo(const Travel& travel, std::ostream* out) {
  *out << "kind " << static_cast<int>(travel.kind) << ", " << travel.chunks << " chunks, rounds of "
       << travel.max_rows_per_round.value_or(0) << (travel.wire_bfloat16 ? ", bfloat16" : "");
}

// Everything but the layout: the same case on any ranks must give the same results.
struct MoeCase {
  std::string name = "moe";
  GlobalBatch batch{.sequences = 6, .length = 5, .group_sequences = 1};
  int64_t experts = 5, d_model = 4, d_ff = 6;
  Activation activation = Activation::kRelu;
  bool gated = false;
  CapacityRule capacity{.train_factor = 1.0, .eval_factor = 1.0, .min_tokens = 0};
  AuxiliaryLosses losses{.load_balance = 0.3, .router_z = 0.2};
  enum class Besides { kNothing, kShared, kResidual };
  Besides besides = Besides::kNothing;  // the mixture: a dense network, added or mixed
  // Empty: the switch router with `jitter`.
  std::function<std::unique_ptr<Router>(const RouterPlace&)> router = {};
  double jitter = 0.0, expert_dropout = 0.0;
  bool training = true;
  DType dtype = DType::kFloat64;
  Numbers x = {};  // [T, D]; empty: normal numbers
  Travel travel = {};
  bool ordered = false;  // train.reduction: ordered, for float32
};

inline void PrintTo(const MoeCase& moe_case, std::ostream* out) { *out << moe_case.name; }

// Sequences with padding at both ends, one without any token, and one of a single token.
inline GlobalBatch padded_batch(int64_t group_sequences) {
  return {.sequences = 6,
          .length = 5,
          .group_sequences = group_sequences,
          .real = real_tokens({5, -3, 4, 0, 5, 1}, 5)};
}

// One rank's share of a case. Every rank makes one and calls the same functions.
class MoeRank {
 public:
  MoeRank(const MoeCase& moe_case, std::unique_ptr<Kernels> kernels, Collectives& world,
          int expert_group_size, int expert_tensor = 1);

  // y of this rank's tokens, [T, D].
  TensorView forward();
  // Writes dx and the weights' gradients, of sum(dy * y) + auxiliary losses. After forward().
  void backward();
  // Sums the choices of all ranks as scope `global` wants them. After forward().
  void share_load();
  // sum(dy * y) + auxiliary losses of all ranks, in float64, the losses computed by this folder's
  // own loops from the router's logits. Runs forward.
  double objective();

  // [T, D] of the whole batch, this rank's rows set, all others zero: summed over ranks they are
  // the one rank's tensor.
  Numbers spread(TensorView rows_here);
  // Sums numbers over all ranks.
  Numbers all_summed(const Numbers& numbers);

  LayerContext& ctx() { return rank_.ctx(); }
  LayerRank& rank() { return rank_; }
  MoeLayer& layer() { return *layer_; }
  MoeLayer::Saved& saved() { return static_cast<MoeLayer::Saved&>(*saved_); }
  const TokenRows& rows() const { return rows_.rows(); }
  int64_t first_token() const { return rows_.first_token(); }
  TensorView x() const { return x_; }
  TensorView dy() const { return dy_; }
  TensorView dx() const { return dx_; }
  Weight& gate() { return *layer_->weights()[0]; }
  Weight& wi() { return *layer_->weights()[1]; }
  Weight& wo() { return *layer_->weights()[2]; }
  // Of gated experts, else null.
  Weight* wg() { return case_.gated ? layer_->weights()[3] : nullptr; }

 private:
  Tensor rows_of(const Numbers& whole_batch);

  MoeCase case_;
  LayerRank rank_;
  Collectives& world_;
  BatchRows rows_;
  std::unique_ptr<MoeLayer> layer_;
  std::unique_ptr<FeedForward::Saved> saved_;
  Tensor x_, dy_, dx_, refused_;
  OrderedSums ordered_;
};

// A router's place whose weights a test sets itself; ids below 50, two slots.
RouterPlace router_place(const std::string& name, uint16_t layer, int64_t experts, int64_t d_model,
                         DType dtype, Memory& memory);

// A layer of a case whose experts are those of this rank of its expert group; weights are normal
// numbers by global name.
std::unique_ptr<MoeLayer> make_moe_layer(const MoeCase& moe_case, LayerRank& rank);

// The case's reference: one rank with single collectives.
class MoeOnOneRank {
 public:
  MoeOnOneRank(const MoeCase& moe_case, std::unique_ptr<Kernels> kernels)
      : world_(make_single_collectives()), rank_(moe_case, std::move(kernels), *world_, 1) {}
  MoeRank* operator->() { return &rank_; }
  MoeRank& operator*() { return rank_; }

 private:
  std::unique_ptr<Collectives> world_;
  MoeRank rank_;
};

// What a layer's auxiliary losses and choices are, by plain loops in float64.
struct RoutingByHand {
  std::vector<int32_t> chosen, kept;        // [T]; -1: not routed, or dropped
  Numbers probability;                      // [T, E]
  double load_balance = 0, router_z = 0;    // without coefficients: means over all groups
  double global_load_balance = 0;           // the same over the whole batch
  double entropy = 0, top_probability = 0;  // sums over routed tokens
};
//   logits  [T, E] of the whole batch
//   routed  [T]; empty: all
RoutingByHand route_by_hand(const Numbers& logits, int64_t experts, const GlobalBatch& batch,
                            int64_t capacity);

}  // namespace switchyard::test
