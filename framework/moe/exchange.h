// Brings the kept rows of all ranks of the expert group to the ranks that hold their experts, and
// the results back; backward uses the same functions for gradients. Before anything travels, the
// ranks compare where they are in the program and how many rows each means to send.
#pragma once

#include "moe/exchange_plan.h"

namespace switchyard {

// The exchanges of a layer, in program order. Ranks that meet in different ones are out of step.
enum class ExchangePhase : int64_t {
  kCounts,
  kKeys,
  kRows,
  kResults,
  kKeysAgain,  // these two: backward in rounds, which kept no received row
  kRowsAgain,
  kGradients,
  kInputGradients
};

class Exchange {
 public:
  struct Options {
    std::unique_ptr<Dispatch> dispatch;  // null: make_all_to_all_dispatch()
    ExchangeSchedule schedule;
    // Rows travel as bfloat16, whatever activations are. A row that stays on its rank is rounded
    // too, so that the layout can't show.
    bool wire_bfloat16 = false;
  };

  //   layer    names the layer in errors and checks, see layer_id
  //   experts  of the layer, over all ranks
  Exchange(uint16_t layer, int64_t experts, Options options);

  // Counts the kept choices, tells all ranks, and lays out what will travel. Every rank of the
  // expert group calls it. Throws RankError where the ranks are not at the same layer, step and
  // phase; so do all functions below.
  //   kept  int32 [T, K], see plan_capacity
  ExchangePlan agree(LayerContext& ctx, const TokenRows& rows, TensorView kept) const;

  // The functions below are for one part of a plan. Every rank of the expert group calls them; they
  // throw RankError where a rank sends another number of rows than its receiver expects. Until
  // wait() has returned, their buffers and what they took from ctx.scratch must stay.

  // Starts to send tokens.
  //   x         [T, D]
  //   received  [part.received, D], by sending rank, each one's rows by (expert, token, choice)
  std::unique_ptr<Work> send_tokens(LayerContext& ctx, const ExchangePlan& plan,
                                    const ExchangePart& part, ExchangePhase phase, TensorView x,
                                    TensorView received) const;
  // The same for rows that stand in sending order already.
  //   rows  [plan.sent, D]
  std::unique_ptr<Work> send_rows(LayerContext& ctx, const ExchangePlan& plan,
                                  const ExchangePart& part, ExchangePhase phase, TensorView rows,
                                  TensorView received) const;
  // Starts to send back what came of received rows.
  //   computed  [part.received, D]
  //   returned  [plan.sent, D]: row i belongs to choice source[i]; only this part's are written
  std::unique_ptr<Work> return_rows(LayerContext& ctx, const ExchangePlan& plan,
                                    const ExchangePart& part, ExchangePhase phase,
                                    TensorView computed, TensorView returned) const;
  // The keys of a part's received rows, int64 [part.received] in `arena`, compact order.
  TensorView exchange_keys(LayerContext& ctx, const ExchangePlan& plan, const ExchangePart& part,
                           ExchangePhase phase, const TokenRows& rows, Arena& arena) const;

  const Dispatch& dispatch() const { return *options_.dispatch; }
  const ExchangeSchedule& schedule() const { return options_.schedule; }
  // Of a row of activations on its way.
  DType wire_dtype(DType activations) const {
    return options_.wire_bfloat16 ? DType::kBFloat16 : activations;
  }

 private:
  // Ranks with slices of the same experts compute together: of their numbers of rounds the largest.
  int64_t most_rounds(LayerContext& ctx, int64_t rounds) const;
  // Tells every rank of the expert group where this one is, and a number.
  //   numbers  [ranks]: one for each rank
  //   returns  [ranks]: what each rank has told this one
  ReusedVector<int64_t> meet(LayerContext& ctx, ExchangePhase phase, int64_t part,
                             std::span<const int64_t> numbers) const;
  std::unique_ptr<Work> move(LayerContext& ctx, ExchangePhase phase, int64_t part,
                             const Traffic& traffic, TensorView send, TensorView received) const;

  uint16_t layer_;
  int64_t experts_;
  Options options_;
};

}  // namespace switchyard
