// Choosing experts, sharing out their room, and moving token rows into expert order and back.
// Probabilities and weights are in the accurate dtype (float32, or float64 in float64 runs).
// `groups` are token boundaries of the routing groups on this rank, [G + 1].
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

// Per routing group, over its real tokens (before any drop); what losses and metrics are made of.
struct RoutingStatistics {
  TensorView tokens;            // int64 [G]: real tokens
  TensorView chosen;            // int64 [G, E]: choices of each expert
  TensorView mean_probability;  // float64 [G, E]; 0 where the group has no real token
  TensorView mean_square_lse;   // float64 [G]: mean of logsumexp(logits)^2
  TensorView entropy;           // float64 [G]: mean of -sum p ln p, in nats
  TensorView top_probability;   // float64 [G]: mean of the largest probability
};

class RoutingOps {
 public:
  virtual ~RoutingOps() = default;

  // Row-wise softmax.  logits, probs [T, E]
  virtual void softmax(ExecContext& ctx, TensorView logits, TensorView probs) = 0;
  // dlogits = probs * (dprobs - sum_e dprobs probs), or added.
  virtual void softmax_backward(ExecContext& ctx, TensorView probs, TensorView dprobs,
                                TensorView dlogits, Write write) = 0;

  // The K largest scores of each token in descending order, ties to the lower expert; -1 for tokens
  // whose mask is 0.
  //   scores [T, E], mask uint8 [T] or absent, expert int32 [T, K]
  virtual void choose_top_k(ExecContext& ctx, TensorView scores, TensorView mask,
                            TensorView expert) = 0;
  // masked = expert, but -1 for all choices of tokens whose mask is 0.
  //   expert, masked int32 [T, K]; mask uint8 [T]
  virtual void mask_choices(ExecContext& ctx, TensorView expert, TensorView mask,
                            TensorView masked) = 0;
  // weight[t, k] = probs[t, expert[t, k]], 0 where expert is -1.
  virtual void gather_choices(ExecContext& ctx, TensorView probs, TensorView expert,
                              TensorView weight) = 0;
  // dprobs[t, expert[t, k]] += dweight[t, k].
  virtual void gather_choices_backward(ExecContext& ctx, TensorView expert, TensorView dweight,
                                       TensorView dprobs) = 0;

  //   logits  [T, E], or absent: mean_square_lse is then 0
  //   expert  int32 [T, K]
  //   real    uint8 [T] or absent: tokens that count
  virtual void routing_statistics(ExecContext& ctx, TensorView logits, TensorView probs,
                                  TensorView expert, TensorView real, LeafOffsets groups,
                                  const RoutingStatistics& statistics) = 0;
  // dprobs[t, e] += factor * f_e / tokens[g] for real tokens: of factor * sum_e f_e P_e; f carries
  // no gradient. f_e = share of the choices that went to e or, where gates choose among groups of
  // experts, to its `group_experts` consecutive ones.
  virtual void load_balance_gradient(ExecContext& ctx, TensorView real, LeafOffsets groups,
                                     const RoutingStatistics& statistics, int64_t choices,
                                     int64_t group_experts, double factor, TensorView dprobs) = 0;
  // dlogits[t, e] += factor * 2 logsumexp_t softmax(logits)[t, e] / tokens[g], for real tokens: of
  // factor * mean logsumexp^2.
  virtual void router_z_gradient(ExecContext& ctx, TensorView logits, TensorView real,
                                 LeafOffsets groups, const RoutingStatistics& statistics,
                                 double factor, TensorView dlogits) = 0;

  // Keeps at most `capacity` choices per (group, expert): first choices of all tokens before second
  // ones, and among equals by descending priority, then by position.
  //   expert   int32 [T, K], -1 = none
  //   priority accurate dtype [T, K], or absent: by position alone
  //   kept     int32 [T, K]: expert, or -1 where the choice is dropped
  virtual void plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority,
                             LeafOffsets groups, int64_t experts, int64_t capacity,
                             TensorView kept) = 0;
  // The same without leaving a token behind while there is room (Fedus 2021, appendix B, in one
  // pass): a choice whose expert is full or is the token's already goes to the expert of the
  // highest score, ties to the lower one, that has room and isn't; it is dropped if there is none.
  //   scores  accurate dtype [T, E]
  //   kept    int32 [T, K]: the expert that the choice lands on, or -1
  virtual void plan_reroute(ExecContext& ctx, TensorView scores, TensorView expert,
                            TensorView priority, LeafOffsets groups, int64_t capacity,
                            TensorView kept) = 0;
  // What the plan cost: dropped[k] = k-th choices that were dropped; weights[0] = summed weight of
  // all choices, weights[1] = of the dropped ones.
  //   expert, kept int32 [T, K]; weight [T, K]; dropped int64 [K]; weights float64 [2]
  virtual void drop_statistics(ExecContext& ctx, TensorView expert, TensorView kept,
                               TensorView weight, TensorView dropped, TensorView weights) = 0;
  // counts[g, e] = kept choices of expert e in group g.  counts int64 [G, E]
  virtual void count_choices(ExecContext& ctx, TensorView kept, LeafOffsets groups,
                             TensorView counts) = 0;
  // Orders the kept choices by (expert, token, choice).
  //   source    int32 [T * K]: flat choice (t * K + k) of each row; only the first N are written
  //   position  int32 [T, K]: row of each choice, -1 where it is dropped
  virtual void order_choices(ExecContext& ctx, TensorView kept, int64_t experts, TensorView source,
                             TensorView position) = 0;

  // keys[i] = random_row(token[source[i] / K], source[i] % K): how a row is known away from home.
  //   token int64 [T], source int32 [at least N], keys int64 [N]
  virtual void gather_row_keys(ExecContext& ctx, TensorView token, TensorView source,
                               int64_t choices, TensorView keys) = 0;
  // rows[i] = x[source[i] / K].
  //   x [T, D], source int32 [at least N], rows [N, D]
  virtual void gather_rows(ExecContext& ctx, TensorView x, TensorView source, int64_t choices,
                           TensorView rows) = 0;
  // y[t] = sum over k in order of weight[t, k] * rows[position[t, k]], summed in the accurate
  // dtype; 0 for a token without rows.
  //   rows [N, D], position int32 [T, K], weight [T, K] or absent (all 1), y [T, D]
  virtual void combine_rows(ExecContext& ctx, TensorView rows, TensorView position,
                            TensorView weight, TensorView y) = 0;
  // drows[i] = weight[source[i]] * dy[source[i] / K]; dweight[t, k] = rows[position[t, k]] . dy[t],
  // 0 where dropped.
  virtual void combine_rows_backward(ExecContext& ctx, TensorView rows, TensorView source,
                                     TensorView position, TensorView weight, TensorView dy,
                                     TensorView drows, TensorView dweight) = 0;
};

void softmax(ExecContext& ctx, TensorView logits, TensorView probs);
void softmax_backward(ExecContext& ctx, TensorView probs, TensorView dprobs, TensorView dlogits,
                      Write write);
void choose_top_k(ExecContext& ctx, TensorView scores, TensorView mask, TensorView expert);
void mask_choices(ExecContext& ctx, TensorView expert, TensorView mask, TensorView masked);
void gather_choices(ExecContext& ctx, TensorView probs, TensorView expert, TensorView weight);
void gather_choices_backward(ExecContext& ctx, TensorView expert, TensorView dweight,
                             TensorView dprobs);
void routing_statistics(ExecContext& ctx, TensorView logits, TensorView probs, TensorView expert,
                        TensorView real, LeafOffsets groups, const RoutingStatistics& statistics);
void load_balance_gradient(ExecContext& ctx, TensorView real, LeafOffsets groups,
                           const RoutingStatistics& statistics, int64_t choices,
                           int64_t group_experts, double factor, TensorView dprobs);
void router_z_gradient(ExecContext& ctx, TensorView logits, TensorView real, LeafOffsets groups,
                       const RoutingStatistics& statistics, double factor, TensorView dlogits);
void plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority, LeafOffsets groups,
                   int64_t experts, int64_t capacity, TensorView kept);
void plan_reroute(ExecContext& ctx, TensorView scores, TensorView expert, TensorView priority,
                  LeafOffsets groups, int64_t capacity, TensorView kept);
void drop_statistics(ExecContext& ctx, TensorView expert, TensorView kept, TensorView weight,
                     TensorView dropped, TensorView weights);
void count_choices(ExecContext& ctx, TensorView kept, LeafOffsets groups, TensorView counts);
void order_choices(ExecContext& ctx, TensorView kept, int64_t experts, TensorView source,
                   TensorView position);
void gather_row_keys(ExecContext& ctx, TensorView token, TensorView source, int64_t choices,
                     TensorView keys);
void gather_rows(ExecContext& ctx, TensorView x, TensorView source, int64_t choices,
                 TensorView rows);
void combine_rows(ExecContext& ctx, TensorView rows, TensorView position, TensorView weight,
                  TensorView y);
void combine_rows_backward(ExecContext& ctx, TensorView rows, TensorView source,
                           TensorView position, TensorView weight, TensorView dy, TensorView drows,
                           TensorView dweight);

// Takes the statistics' tensors from an arena.
RoutingStatistics allocate_statistics(Arena& arena, int64_t groups, int64_t experts);

}  // namespace switchyard
