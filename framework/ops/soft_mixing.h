// Slots that are weighted means of a sequence's tokens, and tokens that are weighted sums of its
// slots' results (Puigcerver 2023). `sequences` are token boundaries, [B + 1]; every sequence has N
// slots. Rows are activations; weights are in their accurate dtype, and so are sums.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard {

class SoftMixing {
 public:
  virtual ~SoftMixing() = default;

  // weights[t, n] = exp(logits[t, n]) / sum of the same over the sequence's tokens whose mask isn't
  // 0; 0 where it is.
  //   logits, weights [T, N]; mask uint8 [T] or absent
  virtual void softmax_over_tokens(ExecContext& ctx, TensorView logits, TensorView mask,
                                   LeafOffsets sequences, TensorView weights) = 0;
  // dlogits = weights * (dweights - sum over the sequence of dweights weights), or added.
  virtual void softmax_over_tokens_backward(ExecContext& ctx, TensorView weights,
                                            TensorView dweights, LeafOffsets sequences,
                                            TensorView dlogits, Write write) = 0;

  // rows[b, n] = sum over the tokens of sequence b of weights[t, n] x[t].
  //   weights [T, N], x [T, D], rows [B * N, D]
  virtual void mix_rows(ExecContext& ctx, TensorView weights, TensorView x, LeafOffsets sequences,
                        TensorView rows) = 0;
  // y[t] = sum over n of weights[t, n] rows[b, n], or added: the transpose of mix_rows, and the
  // gradient of each with respect to its rows is the other.
  virtual void unmix_rows(ExecContext& ctx, TensorView weights, TensorView rows,
                          LeafOffsets sequences, TensorView y, Write write) = 0;
  // dweights[t, n] = x[t] . rows[b, n], or added: for mix_rows of its x and d(rows), for unmix_rows
  // of d(y) and its rows.
  virtual void mixing_gradient(ExecContext& ctx, TensorView x, TensorView rows,
                               LeafOffsets sequences, TensorView dweights, Write write) = 0;
};

void softmax_over_tokens(ExecContext& ctx, TensorView logits, TensorView mask,
                         LeafOffsets sequences, TensorView weights);
void softmax_over_tokens_backward(ExecContext& ctx, TensorView weights, TensorView dweights,
                                  LeafOffsets sequences, TensorView dlogits, Write write);
void mix_rows(ExecContext& ctx, TensorView weights, TensorView x, LeafOffsets sequences,
              TensorView rows);
void unmix_rows(ExecContext& ctx, TensorView weights, TensorView rows, LeafOffsets sequences,
                TensorView y, Write write);
void mixing_gradient(ExecContext& ctx, TensorView x, TensorView rows, LeafOffsets sequences,
                     TensorView dweights, Write write);

}  // namespace switchyard
