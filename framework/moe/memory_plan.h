// How much memory a MoE layer takes on one rank at most, before a token is routed: arenas of these
// sizes never grow, whatever the router does.
#pragma once

#include "moe/exchange.h"

namespace switchyard {

struct MoeLayerSize {
  int64_t tokens = 0, groups = 0;  // T and G: of one micro-batch on this rank, at most
  // The same over all ranks of the expert group, of one slice.
  int64_t tokens_of_group = 0, groups_of_group = 0;
  int64_t choices = 1, experts = 1, d_model = 0, d_ff = 0;  // K, E, D, F
  DType activations = DType::kFloat32;
  bool expert_dropout = false, gated = false;  // of experts
};

struct MoeLayerBytes {
  int64_t saved = 0, decisions = 0;  // between forward and backward
  int64_t scratch = 0;               // inside forward or backward
  int64_t total() const { return saved + decisions + scratch; }
};

// Of the arenas of a LayerContext, for one layer's forward and backward. Without a ceiling of rows
// per round all tokens of the expert group may come to one rank.
MoeLayerBytes planned_bytes(const MoeLayerSize& size, const Exchange& exchange,
                            const Groups& groups);

}  // namespace switchyard
