// The innermost loops on float32, compiled once per instruction set and chosen at run time. Plain
// functions on raw pointers: the translation units behind them must share no inline function with
// the rest of the program, or the linker could keep a copy that this processor cannot run. bfloat16
// is the upper halves of floats as uint16_t.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace switchyard::cpu {

// A product's depth is cut into blocks of this size. Rows of its left side that cannot be used
// where they are are copied beside each other with kLeftStride, an odd multiple of a cache line
// that keeps the rows of one tile out of each other's cache sets.
inline constexpr int64_t kDepthBlock = 256;
inline constexpr int64_t kLeftStride = kDepthBlock + 16;

// So few rows behind whole tiles a product computes one by one.
inline constexpr int64_t kFewRows = 3;

// Values as in ops/mat_mul.h's Activation; vector_loops.cpp checks that they are equal.
enum LoopActivation : int { kLoopNone, kLoopRelu, kLoopGelu, kLoopSilu, kLoopRelu2, kLoopGeluTanh };

// A row's fixed part of the Philox counter and key (base/random.h, random_block).
struct LoopRandom {
  uint32_t token, what, step, key_low, key_high;
  uint32_t first_block;  // of the call's first element: its number / 4
};

// Which of a row of keys a query sees: those of [begin, end) whose segment fits. A query that sees
// no key at all counts them all equally.
struct LoopVisible {
  const int32_t* segment;  // of each key, or null: all keys are real
  bool same_segment;       // only keys of `wanted`; else any real key
  int32_t wanted;
  bool sees_nothing;
  int64_t begin, end;  // within the row
};

// What attention's scores are made of, for one query: scale * dot product + bias where visible.
struct LoopScores {
  float scale;
  const float* bias;  // of each key, or null
  LoopVisible visible;
};

// What the gradient of one query's scores needs besides.
struct LoopScoreGradient {
  float log_sum_exp, mean;  // mean: sum over all keys of probability * d(loss)/d(probability)
  const float* uniform;     // dropout's random numbers, or null
  float rate, keep;
  float* dbias;  // added to, or null
};

// What becomes of what stood at a product's target. kLoopStream overwrites it past the caches,
// which then need not read it first: for a target larger than they are, not to be read again soon.
enum LoopWrite : int { kLoopOverwrite, kLoopAccumulate, kLoopStream };

struct LoopAdamW {
  float beta1, beta2, rest1, rest2;  // rest = 1 - beta, rounded once
  float epsilon, gradient_scale;
  float step_size;             // learning rate / (1 - beta1^step)
  float inverse_root_correct;  // 1 / sqrt(1 - beta2^step)
  float decay;                 // learning rate * weight decay
};

struct LoopSgd {
  float momentum, gradient_scale;
  float from_gradient, from_velocity;  // what the direction is made of
  float step_size;                     // learning rate
  float decay;                         // learning rate * weight decay
};

// n counts elements. Pointers of one call are equal or do not overlap.
struct VectorLoops {
  const char* name;  // "portable", "avx2", "avx512"

  // A register tile of the product below.
  int64_t tile_rows, tile_columns;

  // c[rows, columns] = or += a b, columns <= tile_columns. Every element is one chain of additions
  // in the order of depth, the same for every row and row count.
  //   a      [rows, a_stride]; up to the next multiple of tile_rows rows are read
  //   panel  [depth, tile_columns]
  //   next   the panel that is read next, which is fetched into the cache meanwhile
  void (*product)(const float* a, int64_t a_stride, int64_t rows, const float* panel, int64_t depth,
                  const float* next, float* c, int64_t c_stride, int64_t columns, bool accumulate);
  // The same for the transposed a [depth, a_stride]: row i of c belongs to column i of a; up to the
  // next multiple of tile_rows columns are read.
  void (*product_transposed)(const float* a, int64_t a_stride, int64_t rows, const float* panel,
                             int64_t depth, float* c, int64_t c_stride, int64_t columns,
                             bool accumulate);
  // panel[k, c] = w[k * depth_stride + c * column_stride], 0 for c from `columns` to tile_columns.
  void (*pack_panel)(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                     int64_t column_stride, float* panel);

  // The same with a panel of bfloat16, for which column c stands at 2 c, column c + tile_columns /
  // 2 at 2 c + 1.
  void (*product_bf16)(const float* a, int64_t a_stride, int64_t rows, const uint16_t* panel,
                       int64_t depth, const uint16_t* next, float* c, int64_t c_stride,
                       int64_t columns, bool accumulate);
  // w rounded to bfloat16 on the way.
  void (*pack_panel_bf16)(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                          int64_t column_stride, uint16_t* panel);

  // `rounds` multiply-adds for each of the tile_rows * tile_columns accumulators of the product, on
  // registers alone: what a product could do at best. Returns their sum.
  float (*multiply_adds)(int64_t rounds, float factor);
  // The same as `product` with the left side as spread_rows leaves it.
  //   a  [rows / tile_rows, rounded up][depth, tile_rows]
  void (*product_of_depths)(const float* a, int64_t rows, const float* panel, int64_t depth,
                            float* c, int64_t c_stride, int64_t columns, LoopWrite write);
  // n elements in pieces of tile_rows or tile_columns that are `distance` apart, the last one
  // filled up with zeros.
  void (*spread_rows)(int64_t n, const float* x, float* pieces, int64_t distance);
  void (*spread_columns)(int64_t n, const float* x, float* pieces, int64_t distance);

  void (*widen)(int64_t n, const uint16_t* x, float* y);   // bfloat16 to float32
  void (*narrow)(int64_t n, const float* x, uint16_t* y);  // to the nearest, ties to even
  void (*add)(int64_t n, const float* a, const float* b, float* y);
  void (*scale)(int64_t n, const float* x, float factor, float* y);
  void (*add_scaled)(int64_t n, float factor, const float* x, float* y);  // y += factor x
  float (*dot)(int64_t n, const float* a, const float* b);
  float (*sum_of_squares)(int64_t n, const float* x);
  double (*sum_of_squares_f64)(int64_t n, const float* x);
  // sums += round(x 2^52) where |x| < limit; returns for how many that is not so.
  int64_t (*add_to_ordered)(int64_t n, const float* x, float limit, int64_t* sums);
  // y = sums / 2^52; the two may share memory where y begins at half the sums' place in it or
  // before.
  void (*of_ordered)(int64_t n, const int64_t* sums, float* y);
  void (*exp)(int64_t n, const float* x, float* y);
  void (*activation)(int kind, int64_t n, const float* x, float* y);
  void (*activation_backward)(int kind, int64_t n, const float* x, const float* dy, float* dx);

  // y = x * factor * w
  void (*scale_by_row)(int64_t n, const float* x, float factor, const float* w, float* y);
  // dx (+)= inverse_rms * w * dy - mean_term * x;  dw += dy * x * inverse_rms
  void (*rms_norm_backward)(int64_t n, const float* x, const float* w, const float* dy,
                            float inverse_rms, float mean_term, bool accumulate, float* dx,
                            float* dw);
  // The halves of x as coordinates of n points, turned by angles of the cosines and sines in table
  // [2 n]: (y1, y2) = (x1 c - x2 s, x2 c + x1 s), s times `sign`; y may be x.
  void (*rotate)(int64_t n, const float* x, const float* table, float sign, float* y);
  // sum of w * dy * x
  float (*dot3)(int64_t n, const float* a, const float* b, const float* c);

  // p = exp(x - max) / sum; returns the sum, gives max
  float (*softmax)(int64_t n, const float* x, float* p, float* max);
  // y = exp(x - max) without dividing (y may be null); returns the sum, gives max
  float (*exp_sum)(int64_t n, const float* x, float* y, float* max);
  // dx (+)= p * (dp - sum p dp)
  void (*softmax_backward)(int64_t n, const float* p, const float* dp, bool accumulate, float* dx);

  // One query's dot products with a row of keys become weights e^(score - max), 0 where invisible,
  // max being raised to the largest score. Returns their sum.
  float (*attention_weights)(int64_t n, float* dots, const LoopScores* row, float* max);
  // From the same dot products and those of dout with the values (dp): in `dots` what the values
  // were weighted with, in dp the gradient of the dot products.
  void (*attention_gradient)(int64_t n, float* dots, float* dp, const LoopScores* row,
                             const LoopScoreGradient* gradient);

  // out[i] = random_uniform(..., element 4 first_block + i) for i < n rounded up to 64: `out` must
  // have the room.
  void (*uniform)(const LoopRandom* random, int64_t n, float* out);
  // y = x * (0 where u < rate, else keep); y may be x
  void (*dropout)(int64_t n, const float* x, const float* u, float rate, float keep, float* y);
  void (*multiply)(int64_t n, const float* a, const float* b, float* y);
  // y = x * (1 + epsilon * (2 u - 1)); overwrites u
  void (*jitter)(int64_t n, const float* x, float* u, float epsilon, float* y);

  void (*adamw)(int64_t n, const LoopAdamW* step, const float* gradient, float* weight,
                float* first, float* second);
  void (*sgd)(int64_t n, const LoopSgd* step, const float* gradient, float* weight,
              float* velocity);
  void (*add_squares)(int64_t n, const float* x, float* y);  // y += x^2
  // v = decay v + rest ((scale x)^2 + epsilon)
  void (*decay_squares)(int64_t n, const float* x, float scale, float epsilon, float decay,
                        float rest, float* v);
  // y = factor * x / sqrt(v)
  void (*divide_by_root)(int64_t n, const float* x, const float* v, float factor, float* y);
  // weight -= factor * x + decay * weight
  void (*decayed_step)(int64_t n, float factor, const float* x, float decay, float* weight);
};

extern const VectorLoops kPortableLoops;
extern const VectorLoops kAvx2Loops;
extern const VectorLoops kAvx512Loops;

}  // namespace switchyard::cpu
