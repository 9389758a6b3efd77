// Softmax attention in one operation: scores are never part of an interface.
#pragma once

#include "ops/random_ops.h"

namespace switchyard {

// A query sees a key if the key's segment isn't 0 (padding), equals the query's where query
// segments are given (packing), and lies where `causal` and `window` allow (positions count from 0
// in the row). An invisible key's score is replaced by the lowest finite value, so that a query
// that sees nothing attends to all keys uniformly (as Hugging Face), never NaN.
struct AttentionMask {
  TensorView key_segment;    // int32 [B, Sk] or absent: all keys are real
  TensorView query_segment;  // int32 [B, Sq] or absent: any real key
  bool causal = false;       // only keys at positions <= the query's
  int64_t window = 0;        // > 0: only the last `window` of those
  int64_t query_start = 0;   // position of the first query: keys before it were computed earlier
};

struct AttentionInput {
  TensorView q;     // [B, Sq, H, d]
  TensorView k, v;  // [B, Sk, Hkv, d]; kv head j serves query heads j*H/Hkv .. (j+1)*H/Hkv - 1
  TensorView distance_bias;  // absent, or accurate dtype [H, Sq + Sk - 1]: added to the score of
                             // (query i, key j) is entry j - i + Sq - 1
  AttentionMask mask;
  double scale = 1.0;         // of q.k
  double dropout_rate = 0.0;  // on the softmax's result, keyed (query's token, head, key position)
  RandomRows random;          // token [B * Sq]; used only where dropout_rate > 0
};

class Attention {
 public:
  virtual ~Attention() = default;

  // out = dropout(softmax(scale * q k^T + bias, masked)) v, softmax in the accurate dtype.
  //   out             [B, Sq, H, d]
  //   log_sum_exp     accurate dtype [B, H, Sq]: saved for backward
  virtual void attention(ExecContext& ctx, const AttentionInput& in, TensorView out,
                         TensorView log_sum_exp) = 0;

  // Overwrites dq, dk, dv (shaped as q, k, v) and, where there is a bias, its gradient by leaf.
  //   leaves          boundaries in sequences, [leaves + 1]
  //   ddistance_bias  accurate dtype [leaves, H, Sq + Sk - 1]; absent where the bias is
  virtual void attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
                                  TensorView log_sum_exp, TensorView dout, LeafOffsets leaves,
                                  TensorView dq, TensorView dk, TensorView dv,
                                  TensorView ddistance_bias) = 0;
};

void attention(ExecContext& ctx, const AttentionInput& in, TensorView out, TensorView log_sum_exp);
void attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
                        TensorView log_sum_exp, TensorView dout, LeafOffsets leaves, TensorView dq,
                        TensorView dk, TensorView dv, TensorView ddistance_bias);

}  // namespace switchyard
