// Which tokens the rows of a stack's activations are: the part of a micro-batch that this rank
// works on, always whole routing groups. Made by the trainer, borrowed by every layer.
#pragma once

#include <span>

#include "ops/exec_context.h"
#include "tensor/tensor_view.h"

namespace switchyard {

struct TokenRows {
  int64_t sequences = 0;    // B
  int64_t length = 0;       // S
  TensorView ids;           // int32 [T], T = B * S
  TensorView global_index;  // int64 [T]: sequence's number in the global batch * S + position
  TensorView real;          // uint8 [T]: 0 for padding
  TensorView position;      // int32 [T]: in its sample, from 0; read where positions are rotary
  TensorView segment;  // int32 [B, S]: 0 for padding; absent where attention needs no such mask
  // Whether a row holds several samples, its segments 1, 2, ...: attention stays inside each.
  bool packed = false;

  std::span<const int32_t> labels;  // [T], 0 for padding, on the host; only metrics look at them

  LeafOffsets group_offsets;           // tokens, [G + 1]: this rank's routing groups
  LeafOffsets group_sequences;         // the same in sequences
  int64_t group_tokens = 0;            // of a full group: its sequences times `length`
  int64_t groups_of_global_batch = 0;  // over all ranks and micro-batches

  int64_t tokens() const { return sequences * length; }
  int64_t groups() const { return static_cast<int64_t>(group_offsets.size()) - 1; }
};

}  // namespace switchyard
