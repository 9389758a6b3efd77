// Operations with random numbers, all keyed by global token indices (base/random.h): the layout of
// a run can't show in them, and backward or a recomputation draws the same numbers again.
#pragma once

#include "base/random.h"
#include "ops/exec_context.h"

namespace switchyard {

// The key of a call and what its rows are: tokens by global index, or choices of tokens.
struct RandomRows {
  RandomKey key;
  TensorView token;  // int64 [T], see random_row; a token's global index alone where T are tokens
  int64_t first_column = 0;  // of the call, where its rows are a part of wider ones: keys count on
};

class RandomOps {
 public:
  virtual ~RandomOps() = default;

  // y = x with each element set to 0 with probability `rate`, the others times 1 / (1 - rate).
  // An element is dropped where random_uniform(key, token, choice, first_column + column) < rate
  // (as float32). Backward is the same call on dy.
  //   x, y [T, D]; y may be x
  virtual void dropout(ExecContext& ctx, TensorView x, double rate, const RandomRows& random,
                       TensorView y) = 0;

  // y = x * u, u uniform in [1 - epsilon, 1 + epsilon): 1 + epsilon * (2 * random_uniform - 1),
  // keyed as in dropout. Backward is the same call on dy.
  virtual void jitter(ExecContext& ctx, TensorView x, double epsilon, const RandomRows& random,
                      TensorView y) = 0;

  // y = random_uniform, in [0, 1), keyed as in dropout.
  //   y [T, N] in an accurate dtype
  virtual void uniform(ExecContext& ctx, const RandomRows& random, TensorView y) = 0;
};

void dropout(ExecContext& ctx, TensorView x, double rate, const RandomRows& random, TensorView y);
void jitter(ExecContext& ctx, TensorView x, double epsilon, const RandomRows& random, TensorView y);
void uniform(ExecContext& ctx, const RandomRows& random, TensorView y);

}  // namespace switchyard
