// What routers are made of beside a softmax and its best experts (ops/routing.h): other scores,
// noise, balanced and random choices, two levels of gates. Scores, probabilities and weights are in
// the accurate dtype (float32, or float64 in float64 runs); `groups` are token boundaries of the
// routing groups on this rank, [G + 1]; a `mask` uint8 [T] is 0 for tokens left out, absent: all
// are in.
#pragma once

#include "ops/random_ops.h"
#include "tensor/weight.h"

namespace switchyard {

class GatingOps {
 public:
  virtual ~GatingOps() = default;

  // scores = 1 / (1 + exp(-logits)).  logits, scores [T, E]; scores may be logits
  virtual void sigmoid(ExecContext& ctx, TensorView logits, TensorView scores) = 0;
  // dlogits = dscores * scores * (1 - scores), or added.
  virtual void sigmoid_backward(ExecContext& ctx, TensorView scores, TensorView dscores,
                                TensorView dlogits, Write write) = 0;

  // y = factor * x / sum of x's row, 0 where the sum is 0.  x, y [T, N]; y may be x
  virtual void normalize_rows(ExecContext& ctx, TensorView x, double factor, TensorView y) = 0;
  // dx = factor * (dy - sum_j dy_j x_j / sum) / sum, or added; 0 where the sum is 0.
  virtual void normalize_rows_backward(ExecContext& ctx, TensorView x, double factor, TensorView dy,
                                       TensorView dx, Write write) = 0;

  // y[t] = x[t] + row.  x, y [T, N]; row [N]; y may be x
  virtual void add_row(ExecContext& ctx, TensorView x, TensorView row, TensorView y) = 0;

  // masked = scores, but the lowest finite number outside each token's `top` best of
  // `expert_groups` groups of E / expert_groups consecutive experts. A group's score is the sum of
  // its `each` best; ties go to the lower group (DeepSeek-V3, section 2.1.2).
  //   scores, masked [T, E]; masked may be scores
  virtual void keep_best_groups(ExecContext& ctx, TensorView scores, int64_t expert_groups,
                                int64_t top, int64_t each, TensorView masked) = 0;

  // noisy = logits + n * ln(1 + exp(noise_logits)), n = random_normal keyed as in dropout (Shazeer
  // 2017, eq. 4). d(noisy)/d(logits) is the identity.
  //   logits, noise_logits, noisy [T, E]
  virtual void add_noise(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                         const RandomRows& random, TensorView noisy) = 0;
  // dnoise_logits = dnoisy * n / (1 + exp(-noise_logits)), or added.
  virtual void add_noise_backward(ExecContext& ctx, TensorView noise_logits,
                                  const RandomRows& random, TensorView dnoisy,
                                  TensorView dnoise_logits, Write write) = 0;

  // The probability that expert e would be among the token's K best with new noise of its own
  // (Shazeer 2017, eq. 8 and 9): load = Phi((logits - threshold) / ln(1 + exp(noise_logits))),
  // threshold the K-th largest of the row of noisy without e; 1 where K = E.
  //   logits, noise_logits, noisy, load [T, E]
  virtual void smooth_load(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                           TensorView noisy, int64_t choices, TensorView load) = 0;
  // The gradients of all three, or added to them; the threshold is an element of noisy.
  virtual void smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                                    TensorView noisy, int64_t choices, TensorView dload,
                                    TensorView dlogits, TensorView dnoise_logits, TensorView dnoisy,
                                    Write write) = 0;

  // cv[g] = variance / mean^2 of the N sums of values over the group's tokens: the squared
  // coefficient of variation with the population's variance; 0 where the mean is 0.
  //   values [T, N], mask uint8 [T] or absent, cv float64 [G]
  virtual void cv_squared(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                          TensorView cv) = 0;
  // dvalues += factor * d(sum of cv)/d(values).
  virtual void cv_squared_gradient(ExecContext& ctx, TensorView values, TensorView mask,
                                   LeafOffsets groups, double factor, TensorView dvalues) = 0;

  // Second choices stay with probability min(1, 2 weight[t, 1]): where random_uniform, keyed as in
  // dropout, is below that (Lepikhin 2020, algorithm 1). Each choice goes to one of two tensors and
  // is -1 in the other.
  //   expert, sent, skipped int32 [T, 2]; weight [T, 2]
  virtual void skip_choices(ExecContext& ctx, TensorView expert, TensorView weight,
                            const RandomRows& random, TensorView sent, TensorView skipped) = 0;

  // Experts choose tokens (Zhou 2022): in each group, expert e takes the min(capacity, tokens in)
  // tokens of the largest probs[., e], ties to the lower token.
  //   probs [T, E], mask uint8 [T] or absent, expert int32 [T, E]: e where e took t, else -1
  virtual void choose_tokens(ExecContext& ctx, TensorView probs, TensorView mask,
                             LeafOffsets groups, int64_t capacity, TensorView expert) = 0;

  // exp(logits) of each group with its columns, then its rows scaled, `iterations` times, so that
  // rows sum to 1 and columns come close to (tokens in) / E (Clark 2022, appendix B). In float64
  // and logarithms inside. Rows of tokens left out are 0. Has no gradient.
  //   logits, assignment [T, E]; mask uint8 [T] or absent
  virtual void sinkhorn(ExecContext& ctx, TensorView logits, TensorView mask, LeafOffsets groups,
                        int64_t iterations, TensorView assignment) = 0;

  // y[t, j] = x[t, j] * factor[t, j / (N / n)].  x, y [T, N]; factor [T, n]; n divides N
  virtual void scale_column_groups(ExecContext& ctx, TensorView x, TensorView factor,
                                   TensorView y) = 0;
  // dx[t, j] = dy[t, j] * factor[t, i]; dfactor[t, i] = sum over its columns of dy * x; or added.
  virtual void scale_column_groups_backward(ExecContext& ctx, TensorView x, TensorView factor,
                                            TensorView dy, TensorView dx, TensorView dfactor,
                                            Write write) = 0;

  // y[t, i] = sum of the i-th N / n columns of x.  x [T, N], y [T, n]; n divides N
  virtual void sum_column_groups(ExecContext& ctx, TensorView x, TensorView y) = 0;

  // expert[t, i * k2 + j] = group[t, i] * experts_per_group + inner[t * n + group[t, i], j]; -1
  // where group[t, i] is -1.
  //   group int32 [T, k1], inner int32 [T * n, k2], expert int32 [T, k1 * k2]
  virtual void join_choices(ExecContext& ctx, TensorView group, TensorView inner,
                            int64_t experts_per_group, TensorView expert) = 0;
  // The groups of joined choices: group[t, i] = expert[t, i * k2] / experts_per_group, or -1.
  //   expert int32 [T, k1 * k2], group int32 [T, k1]
  virtual void split_choices(ExecContext& ctx, TensorView expert, int64_t experts_per_group,
                             TensorView group) = 0;

  // expert[t, 0] = table[ids[t]], -1 for tokens left out.
  //   table int32 [V], ids int32 [T] in [0, V), mask uint8 [T] or absent, expert int32 [T, 1]
  virtual void look_up_choices(ExecContext& ctx, TensorView table, TensorView ids, TensorView mask,
                               TensorView expert) = 0;
};

void sigmoid(ExecContext& ctx, TensorView logits, TensorView scores);
void sigmoid_backward(ExecContext& ctx, TensorView scores, TensorView dscores, TensorView dlogits,
                      Write write);
void normalize_rows(ExecContext& ctx, TensorView x, double factor, TensorView y);
void normalize_rows_backward(ExecContext& ctx, TensorView x, double factor, TensorView dy,
                             TensorView dx, Write write);
void add_row(ExecContext& ctx, TensorView x, TensorView row, TensorView y);
void keep_best_groups(ExecContext& ctx, TensorView scores, int64_t expert_groups, int64_t top,
                      int64_t each, TensorView masked);
void add_noise(ExecContext& ctx, TensorView logits, TensorView noise_logits,
               const RandomRows& random, TensorView noisy);
void add_noise_backward(ExecContext& ctx, TensorView noise_logits, const RandomRows& random,
                        TensorView dnoisy, TensorView dnoise_logits, Write write);
void smooth_load(ExecContext& ctx, TensorView logits, TensorView noise_logits, TensorView noisy,
                 int64_t choices, TensorView load);
void smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                          TensorView noisy, int64_t choices, TensorView dload, TensorView dlogits,
                          TensorView dnoise_logits, TensorView dnoisy, Write write);
void cv_squared(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                TensorView cv);
void cv_squared_gradient(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                         double factor, TensorView dvalues);
void skip_choices(ExecContext& ctx, TensorView expert, TensorView weight, const RandomRows& random,
                  TensorView sent, TensorView skipped);
void choose_tokens(ExecContext& ctx, TensorView probs, TensorView mask, LeafOffsets groups,
                   int64_t capacity, TensorView expert);
void sinkhorn(ExecContext& ctx, TensorView logits, TensorView mask, LeafOffsets groups,
              int64_t iterations, TensorView assignment);
void scale_column_groups(ExecContext& ctx, TensorView x, TensorView factor, TensorView y);
void scale_column_groups_backward(ExecContext& ctx, TensorView x, TensorView factor, TensorView dy,
                                  TensorView dx, TensorView dfactor, Write write);
void sum_column_groups(ExecContext& ctx, TensorView x, TensorView y);
void join_choices(ExecContext& ctx, TensorView group, TensorView inner, int64_t experts_per_group,
                  TensorView expert);
void split_choices(ExecContext& ctx, TensorView expert, int64_t experts_per_group,
                   TensorView group);
void look_up_choices(ExecContext& ctx, TensorView table, TensorView ids, TensorView mask,
                     TensorView expert);

}  // namespace switchyard
