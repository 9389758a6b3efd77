// Brings the kept rows of all ranks of the expert group to the ranks that hold their experts, and
// the results back. Rows travel sorted by (expert, token, choice); the two directions are each
// other's transpose, so backward uses the same two functions the other way round.
#pragma once

#include <vector>

#include "layers/layer_context.h"
#include "ops/grouped_mat_mul.h"

namespace switchyard {

// One layer's agreement of all ranks of the expert group on who sends how many rows to whom.
struct ExchangePlan {
  std::vector<int64_t> send_rows, received_rows;  // by rank of the expert group
  int64_t sent = 0, received = 0;                 // their sums
  std::vector<int64_t> offsets;                   // [L + 1], see RaggedRows
  std::vector<int64_t> leaf_offsets;              // boundaries of every (expert, rank, leaf) run
  TensorView source;                              // int32 [T * K]: flat choice of each sent row
  TensorView position;                            // int32 [T, K]: sent row of each choice, or -1
  TensorView index;                               // int32 [received], see RaggedRows
  TensorView keys;  // int64 [received], compact order: see random_row; absent unless asked for

  RaggedRows ragged() const;
};

class Exchange {
 public:
  //   layer    names the layer in errors and checks
  //   experts  of the layer, over all ranks
  Exchange(uint16_t layer, int64_t experts) : layer_(layer), experts_(experts) {}

  // Counts the kept choices, tells all ranks, and lays out what will travel. Every rank of the
  // expert group calls it. Throws RankError where the ranks are not at the same layer and step.
  //   kept       int32 [T, K], see plan_capacity
  //   with_keys  whether the received rows' keys are wanted; the same on every rank
  ExchangePlan agree(LayerContext& ctx, const TokenRows& rows, TensorView kept,
                     bool with_keys) const;

  // Leaves what it sent in ctx.scratch, for the caller's scope to take back.
  //   x        [T, D]
  //   returns  [received, D] in `arena`, in rank order, each rank's rows by (expert, token, choice)
  TensorView to_experts(LayerContext& ctx, const ExchangePlan& plan, TensorView x,
                        Arena& arena) const;
  // The same for rows that already stand in sending order [sent, D].
  TensorView send_rows(LayerContext& ctx, const ExchangePlan& plan, TensorView rows,
                       Arena& arena) const;
  //   computed  [received, D]
  //   returns   [sent, D] in `arena`: row i belongs to choice source[i]
  TensorView to_owners(LayerContext& ctx, const ExchangePlan& plan, TensorView computed,
                       Arena& arena) const;

 private:
  struct Counts {
    std::vector<int64_t> leaves_of_rank;
    std::vector<int64_t> rows;  // [leaves of all ranks, E]
  };
  Counts gather_counts(LayerContext& ctx, const TokenRows& rows, TensorView kept) const;
  TensorView exchange_keys(LayerContext& ctx, const TokenRows& rows,
                           const ExchangePlan& plan) const;

  uint16_t layer_;
  int64_t experts_;
};

}  // namespace switchyard
