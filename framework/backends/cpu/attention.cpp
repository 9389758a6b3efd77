// Attention by (sequence, head): scores of a block of queries at a time in the thread's buffer, the
// products by oneDNN. Backward computes the probabilities again from log_sum_exp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/loop_random.h"
#include "backends/cpu/sgemm.h"

namespace switchyard {
namespace {

using cpu::Matrix;

constexpr int64_t kQueryBlock = 128;

int64_t padded(int64_t n) { return (n + 63) / 64 * 64; }

// Shapes and inputs of a call, as the blocks of one (sequence, head) see them.
class Heads {
 public:
  Heads(const AttentionInput& in, const cpu::VectorLoops& loops)
      : in_(in),
        loops_(loops),
        batch(in.q.shape()[0]),
        queries(in.q.shape()[1]),
        keys(in.k.shape()[1]),
        heads(in.q.shape()[2]),
        key_heads(in.k.shape()[2]),
        width(in.q.shape()[3]),
        distances(queries + keys - 1),
        scale(static_cast<float>(in.scale)),
        bias_(in.distance_bias.absent() ? nullptr : in.distance_bias.data<float>()) {}

  int64_t query_stride() const { return heads * width; }
  int64_t key_stride() const { return key_heads * width; }
  float* query(TensorView x, int64_t b, int64_t i, int64_t h) const {
    return x.data<float>() + ((b * queries + i) * heads + h) * width;
  }
  float* key(TensorView x, int64_t b, int64_t key_head) const {
    return x.data<float>() + (b * keys * key_heads + key_head) * width;
  }
  int64_t key_head_of(int64_t h) const { return h / (heads / key_heads); }

  cpu::LoopVisible visible(int64_t b, int64_t i) const {
    const AttentionMask& mask = in_.mask;
    cpu::LoopVisible v{nullptr, false, 0, 0, keys};
    if (!mask.key_segment.absent()) v.segment = mask.key_segment.data<int32_t>() + b * keys;
    if (!mask.query_segment.absent()) {
      v.same_segment = true;
      v.wanted = mask.query_segment.data<int32_t>()[b * queries + i];
    }
    if (mask.causal) v.end = std::min(keys, i + 1);
    if (mask.window > 0) v.begin = std::clamp<int64_t>(i - mask.window + 1, 0, keys);
    return v;
  }

  // The row of distances that begins at (query i, key 0), or null.
  const float* bias(int64_t h, int64_t i) const {
    return bias_ == nullptr ? nullptr : bias_ + h * distances + queries - 1 - i;
  }

  // What dropout multiplies the weights of query i by. `factors` has room for padded(keys).
  void dropout_factors(int64_t b, int64_t i, int64_t h, float* factors) const {
    const RandomKey& random = in_.random.key;
    const cpu::LoopRandom row = cpu::loop_random(
        random, in_.random.token.data<int64_t>()[b * queries + i], static_cast<uint32_t>(h));
    loops_.uniform(&row, keys, factors);
    loops_.dropout_factors(keys, factors, static_cast<float>(in_.dropout_rate),
                           static_cast<float>(1.0 / (1.0 - in_.dropout_rate)), factors);
  }
  bool has_dropout() const { return in_.dropout_rate > 0; }

  // scores[rows, keys] = q k^T of queries first.. of one head, not scaled.
  void dot_products(int64_t b, int64_t h, int64_t first, int64_t rows, float* scores) const {
    cpu::sgemm(rows, keys, width, 1.0f, {query(in_.q, b, first, h), query_stride()},
               {key(in_.k, b, key_head_of(h)), key_stride(), true}, 0.0f, scores, keys);
  }

 private:
  const AttentionInput& in_;
  const cpu::VectorLoops& loops_;

 public:
  const int64_t batch, queries, keys, heads, key_heads, width, distances;
  const float scale;

 private:
  const float* bias_;
};

}  // namespace

void CpuKernels::attention(ExecContext&, const AttentionInput& in, TensorView out,
                           TensorView log_sum_exp) {
  const Heads at(in, loops_);
  const int64_t block_rows = std::min(kQueryBlock, at.queries);
  const int64_t blocks = (at.queries + block_rows - 1) / block_rows;
  const auto compute = [&](int64_t unit, int thread) {
    const int64_t b = unit / (at.heads * blocks), h = unit / blocks % at.heads;
    const int64_t first = unit % blocks * block_rows;
    const int64_t rows = std::min(block_rows, at.queries - first);
    float* scores = team_.buffer(thread, block_rows * at.keys + padded(at.keys));
    float* factors = scores + block_rows * at.keys;
    at.dot_products(b, h, first, rows, scores);
    float* lse = log_sum_exp.data<float>() + (b * at.heads + h) * at.queries;
    for (int64_t i = first; i < first + rows; ++i) {
      float* p = scores + (i - first) * at.keys;
      const cpu::LoopVisible visible = at.visible(b, i);
      float max = 0;
      const float sum =
          loops_.attention_softmax(at.keys, p, at.scale, at.bias(h, i), &visible, &max);
      lse[i] = max + std::log(sum);
      if (!at.has_dropout()) continue;
      at.dropout_factors(b, i, h, factors);
      loops_.multiply(at.keys, p, factors, p);
    }
    cpu::sgemm(rows, at.width, at.keys, 1.0f, {scores, at.keys},
               {at.key(in.v, b, at.key_head_of(h)), at.key_stride()}, 0.0f,
               at.query(out, b, first, h), at.query_stride());
  };
  team_.units(at.batch * at.heads * blocks, block_rows * at.keys * at.width / 4, compute);
}

namespace {

struct BackwardCall {
  const AttentionInput& in;
  TensorView log_sum_exp, dout, dq, dk, dv;
  float* dbias;  // [B, H, Sq + Sk - 1] or null
};

// A thread's buffer, cut up: scores and their gradient [rows, keys], one row of dropout factors.
struct BackwardBuffers {
  float *p, *dp, *factors;
};

// From the block's dot products in `p`: what v is weighted with in `p`, the scores' gradient in
// `dp` (on entry dout v^T).
void score_gradients(const Heads& at, const cpu::VectorLoops& loops, const BackwardCall& call,
                     int64_t b, int64_t h, int64_t first, int64_t rows,
                     const BackwardBuffers& buffers) {
  const float* lse = call.log_sum_exp.data<float>() + (b * at.heads + h) * at.queries;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t i = first + row;
    float *p = buffers.p + row * at.keys, *dp = buffers.dp + row * at.keys;
    const cpu::LoopVisible visible = at.visible(b, i);
    loops.attention_probability(at.keys, p, at.scale, at.bias(h, i), &visible, lse[i]);
    const float* factors = nullptr;
    if (at.has_dropout()) {
      at.dropout_factors(b, i, h, buffers.factors);
      factors = buffers.factors;
    }
    const bool sees_nothing = lse[i] <= std::numeric_limits<float>::lowest();
    if (sees_nothing) {
      std::fill_n(dp, at.keys, 0.0f);  // its scores are constants
    } else {
      loops.attention_score_gradient(at.keys, p, dp, factors, dp);
    }
    if (factors != nullptr) loops.multiply(at.keys, p, factors, p);
    if (call.dbias != nullptr) {
      float* dbias = call.dbias + (b * at.heads + h) * at.distances + at.queries - 1 - i;
      loops.add(at.keys, dbias, dp, dbias);
    }
  }
}

// Every gradient of one sequence's key head, from all query heads that it serves.
void backward_of_key_head(const Heads& at, const cpu::VectorLoops& loops, const BackwardCall& call,
                          int64_t b, int64_t key_head, const BackwardBuffers& buffers) {
  const int64_t group = at.heads / at.key_heads;
  const Matrix k{at.key(call.in.k, b, key_head), at.key_stride()};
  const Matrix v{at.key(call.in.v, b, key_head), at.key_stride(), true};
  float *dk = at.key(call.dk, b, key_head), *dv = at.key(call.dv, b, key_head);
  float keep = 0.0f;
  for (int64_t h = key_head * group; h < (key_head + 1) * group; ++h) {
    for (int64_t first = 0; first < at.queries; first += kQueryBlock) {
      const int64_t rows = std::min(kQueryBlock, at.queries - first);
      const Matrix q{at.query(call.in.q, b, first, h), at.query_stride()};
      const Matrix dout{at.query(call.dout, b, first, h), at.query_stride()};
      at.dot_products(b, h, first, rows, buffers.p);
      cpu::sgemm(rows, at.keys, at.width, 1.0f, dout, v, 0.0f, buffers.dp, at.keys);
      score_gradients(at, loops, call, b, h, first, rows, buffers);
      cpu::sgemm(at.keys, at.width, rows, 1.0f, {buffers.p, at.keys, true}, dout, keep, dv,
                 at.key_stride());
      cpu::sgemm(rows, at.width, at.keys, at.scale, {buffers.dp, at.keys}, k, 0.0f,
                 at.query(call.dq, b, first, h), at.query_stride());
      cpu::sgemm(at.keys, at.width, rows, at.scale, {buffers.dp, at.keys, true}, q, keep, dk,
                 at.key_stride());
      keep = 1.0f;
    }
  }
}

// Sums the sequences' parts [B, H P] into their leaves' [leaves, H P], in order.
void sum_by_leaf(const float* parts, LeafOffsets leaves, int64_t row, const cpu::VectorLoops& loops,
                 float* sums) {
  for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf, sums += row) {
    std::fill_n(sums, row, 0.0f);
    for (int64_t b = leaves[leaf]; b < leaves[leaf + 1]; ++b) {
      loops.add(row, sums, parts + b * row, sums);
    }
  }
}

}  // namespace

void CpuKernels::attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView,
                                    TensorView log_sum_exp, TensorView dout, LeafOffsets leaves,
                                    TensorView dq, TensorView dk, TensorView dv,
                                    TensorView ddistance_bias) {
  const Heads at(in, loops_);
  if (at.batch * at.queries == 0) {
    for (TensorView gradient : {dk, dv, ddistance_bias}) {
      if (gradient.elements() > 0) fill_zero(ctx, gradient);
    }
    return;
  }
  const ScratchScope scope(ctx.scratch);
  BackwardCall call{in, log_sum_exp, dout, dq, dk, dv, nullptr};
  const int64_t group = at.heads / at.key_heads;
  if (!ddistance_bias.absent()) {
    const Shape parts{at.batch, at.heads, at.distances};
    call.dbias = ctx.scratch.allocate(DType::kFloat32, parts).data<float>();
  }
  const int64_t block = std::min(kQueryBlock, at.queries) * at.keys;
  const auto compute = [&](int64_t unit, int thread) {
    const int64_t b = unit / at.key_heads, key_head = unit % at.key_heads;
    if (call.dbias != nullptr) {
      std::fill_n(call.dbias + (b * at.heads + key_head * group) * at.distances,
                  group * at.distances, 0.0f);
    }
    float* buffer = team_.buffer(thread, 2 * block + padded(at.keys));
    backward_of_key_head(at, loops_, call, b, key_head,
                         {buffer, buffer + block, buffer + 2 * block});
  };
  team_.units(at.batch * at.key_heads, at.queries * at.keys * at.width, compute);
  if (call.dbias == nullptr) return;
  sum_by_leaf(call.dbias, leaves, at.heads * at.distances, loops_, ddistance_bias.data<float>());
}

}  // namespace switchyard
