// Element by element, and tables read by index.
#pragma once

#include "ops/mat_mul.h"

namespace switchyard {

class Elementwise {
 public:
  virtual ~Elementwise() = default;

  virtual void fill_zero(ExecContext& ctx, TensorView x) = 0;
  // y = x, converted between floating dtypes where they differ.
  virtual void copy(ExecContext& ctx, TensorView x, TensorView y) = 0;
  // y = a + b; y may be a or b.
  virtual void add(ExecContext& ctx, TensorView a, TensorView b, TensorView y) = 0;
  // y = factor * x; y may be x.
  virtual void scale(ExecContext& ctx, TensorView x, double factor, TensorView y) = 0;
  // dx = dy * activation'(pre_activation); dx may be dy. gelu is the exact one (erf),
  // gelu_tanh its approximation.
  virtual void activation_backward(ExecContext& ctx, Activation activation,
                                   TensorView pre_activation, TensorView dy, TensorView dx) = 0;
  // y = activation(gate) * up: the middle of a gated feed-forward network (Shazeer 2020); y may be
  // gate or up.
  virtual void gated_activation(ExecContext& ctx, Activation activation, TensorView gate,
                                TensorView up, TensorView y) = 0;
  // dgate = dy * up * activation'(gate), dup = dy * activation(gate); one of them may be dy.
  virtual void gated_activation_backward(ExecContext& ctx, Activation activation, TensorView gate,
                                         TensorView up, TensorView dy, TensorView dgate,
                                         TensorView dup) = 0;

  // y[t] = table[ids[t]].
  //   table [V, D] (its master), ids int32 [T] in [0, V), y [T, D] of any floating dtype
  virtual void embedding(ExecContext& ctx, const Weight& table, TensorView ids, TensorView y) = 0;
  // Writes the sum of dy over the rows with each id into the table's gradient; the others get zero.
  virtual void embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy,
                                  LeafOffsets leaves, Weight& table) = 0;

  // bias[h, p] = table[bucket[p], h]: a relative position bias by distance (see attention.h).
  //   table [buckets, H], bucket int32 [P], bias accurate dtype [H, P]
  virtual void distance_bias(ExecContext& ctx, const Weight& table, TensorView bucket,
                             TensorView bias) = 0;
  //   dbias accurate dtype [leaves, H, P]
  virtual void distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket,
                                      Weight& table) = 0;
};

void fill_zero(ExecContext& ctx, TensorView x);
void copy(ExecContext& ctx, TensorView x, TensorView y);
void add(ExecContext& ctx, TensorView a, TensorView b, TensorView y);
void scale(ExecContext& ctx, TensorView x, double factor, TensorView y);
void activation_backward(ExecContext& ctx, Activation activation, TensorView pre_activation,
                         TensorView dy, TensorView dx);
void gated_activation(ExecContext& ctx, Activation activation, TensorView gate, TensorView up,
                      TensorView y);
void gated_activation_backward(ExecContext& ctx, Activation activation, TensorView gate,
                               TensorView up, TensorView dy, TensorView dgate, TensorView dup);
void embedding(ExecContext& ctx, const Weight& table, TensorView ids, TensorView y);
void embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy, LeafOffsets leaves,
                        Weight& table);
void distance_bias(ExecContext& ctx, const Weight& table, TensorView bucket, TensorView bias);
void distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket, Weight& table);

}  // namespace switchyard
