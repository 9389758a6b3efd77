// A router whose experts don't see tokens but slots: rows that it makes of a sequence's tokens.
// Each expert has the same number of slots in every sequence, so that nothing is ever dropped.
#pragma once

#include <vector>

#include "moe/router.h"

namespace switchyard {

// N slots a sequence, those of an expert next to each other.
struct SlotRouting : Routing {
  TensorView slots;           // [B * N, D]
  TensorView expert_of_slot;  // int32 [B * N, 1]
  // The slots as rows that travel, leaf by leaf as their sequences. Without ids and masks.
  TokenRows rows;
  std::vector<int64_t> group_offsets;  // what rows.group_offsets shows
};

// Its Routing is a SlotRouting: `weight` [T, N] is each slot's share in a token's output, `probs`
// [T, E] their sums by expert, `chosen` [T, 1] the expert of the largest.
class SlotRouter : public Router {
 public:
  // Returns y [T, D] in ctx.saved: each token's mean of the experts' results.
  //   results  [B * N, D]: what the experts made of the slots
  virtual TensorView spread(LayerContext& ctx, const RouterInput& input, const SlotRouting& routing,
                            TensorView results) = 0;
  // Overwrites dresults [B * N, D] and dweight [T, N].
  virtual void spread_backward(LayerContext& ctx, const RouterInput& input,
                               const SlotRouting& routing, TensorView results, TensorView dy,
                               TensorView dresults, TensorView dweight) = 0;
};

}  // namespace switchyard
