// Attention by (sequence, head): scores of a block of queries at a time in the thread's buffer, the
// products by oneDNN. Backward computes the probabilities again from log_sum_exp. bfloat16 vectors
// are widened into the buffer first; probabilities and everything about them is float32.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/loop_random.h"

namespace switchyard {
namespace {

using cpu::Matrix;

constexpr int64_t kQueryBlock = 128;

int64_t padded(int64_t n) { return (n + 63) / 64 * 64; }

// Hands out parts of a thread's buffer.
class Floats {
 public:
  explicit Floats(float* begin) : next_(begin) {}
  float* take(int64_t floats) { return std::exchange(next_, next_ + floats); }

 private:
  float* next_;
};

// Shapes and inputs of a call, as the blocks of one (sequence, head) see them.
template <typename T>
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
  T* query(TensorView x, int64_t b, int64_t i, int64_t h) const {
    return x.data<T>() + ((b * queries + i) * heads + h) * width;
  }
  T* key(TensorView x, int64_t b, int64_t key_head) const {
    return x.data<T>() + (b * keys * key_heads + key_head) * width;
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
    const int64_t position = mask.query_start + i;
    if (mask.causal) v.end = std::min(keys, position + 1);
    if (mask.window > 0) v.begin = std::clamp<int64_t>(position - mask.window + 1, 0, keys);
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

  // The vectors of queries first.. or of all keys of one head, as a product reads them. `buffer`
  // has room for widened<T> of them.
  Matrix query_rows(TensorView x, int64_t b, int64_t h, int64_t first, int64_t rows,
                    float* buffer) const {
    return cpu::as_floats(loops_, query(x, b, first, h), query_stride(), rows, width, buffer);
  }
  Matrix key_rows(TensorView x, int64_t b, int64_t key_head, float* buffer) const {
    return cpu::as_floats(loops_, key(x, b, key_head), key_stride(), keys, width, buffer);
  }
  // The stride of a product's result that stands where results of `stride` do, or in a buffer.
  int64_t target_stride(int64_t stride) const { return std::is_same_v<T, float> ? stride : width; }
  // Rows of a product's result to `rows` vectors at a stride.
  void store_rows(const float* from, T* to, int64_t stride, int64_t rows) const {
    if constexpr (!std::is_same_v<T, float>) {
      for (int64_t i = 0; i < rows; ++i) {
        cpu::store(loops_, width, from + i * width, to + i * stride);
      }
    }
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
  cpu::with_activation(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Heads<T> at(in, loops_);
    const int64_t block_rows = std::min(kQueryBlock, at.queries);
    const int64_t blocks = (at.queries + block_rows - 1) / block_rows;
    const int64_t query_floats = cpu::widened<T>(block_rows * at.width);
    const int64_t key_floats = cpu::widened<T>(at.keys * at.width);
    const int64_t buffer_floats =
        block_rows * at.keys + padded(at.keys) + 2 * (query_floats + key_floats);
    const auto compute = [&](int64_t unit, int thread) {
      const int64_t b = unit / (at.heads * blocks), h = unit / blocks % at.heads;
      const int64_t first = unit % blocks * block_rows;
      const int64_t rows = std::min(block_rows, at.queries - first);
      Floats buffer(team_.buffer(thread, buffer_floats));
      float *scores = buffer.take(block_rows * at.keys), *factors = buffer.take(padded(at.keys));
      const Matrix q = at.query_rows(in.q, b, h, first, rows, buffer.take(query_floats));
      Matrix k = at.key_rows(in.k, b, at.key_head_of(h), buffer.take(key_floats));
      const Matrix v = at.key_rows(in.v, b, at.key_head_of(h), buffer.take(key_floats));
      k.transposed = true;
      cpu::sgemm(rows, at.keys, at.width, 1.0f, q, k, 0.0f, scores, at.keys);
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
      T* results = at.query(out, b, first, h);
      float* result = cpu::target(results, buffer.take(query_floats));
      cpu::sgemm(rows, at.width, at.keys, 1.0f, {scores, at.keys}, v, 0.0f, result,
                 at.target_stride(at.query_stride()));
      at.store_rows(result, results, at.query_stride(), rows);
    };
    team_.units(at.batch * at.heads * blocks, block_rows * at.keys * at.width / 4, compute);
  });
}

namespace {

struct BackwardCall {
  const AttentionInput& in;
  TensorView log_sum_exp, dout, dq, dk, dv;
  float* dbias;  // [B, H, Sq + Sk - 1] or null
};

// A thread's buffer, cut up: scores and their gradient [rows, keys], one row of dropout factors,
// and where T is bfloat16 the vectors that products read and write.
struct BackwardBuffers {
  float *p, *dp, *factors;
  float *q, *dout, *dq;    // [rows, width]
  float *k, *v, *dk, *dv;  // [keys, width]

  template <typename T>
  static int64_t floats(const Heads<T>& at) {
    const int64_t rows = std::min(kQueryBlock, at.queries);
    return 2 * rows * at.keys + padded(at.keys) +
           cpu::widened<T>((3 * rows + 4 * at.keys) * at.width);
  }
  template <typename T>
  BackwardBuffers(const Heads<T>& at, Floats buffer) {
    const int64_t rows = std::min(kQueryBlock, at.queries);
    for (float** scores : {&p, &dp}) *scores = buffer.take(rows * at.keys);
    factors = buffer.take(padded(at.keys));
    for (float** of_queries : {&q, &dout, &dq}) {
      *of_queries = buffer.take(cpu::widened<T>(rows * at.width));
    }
    for (float** of_keys : {&k, &v, &dk, &dv}) {
      *of_keys = buffer.take(cpu::widened<T>(at.keys * at.width));
    }
  }
};

// From the block's dot products in `p`: what v is weighted with in `p`, the scores' gradient in
// `dp` (on entry dout v^T).
template <typename T>
void score_gradients(const Heads<T>& at, const cpu::VectorLoops& loops, const BackwardCall& call,
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
template <typename T>
void backward_of_key_head(const Heads<T>& at, const cpu::VectorLoops& loops,
                          const BackwardCall& call, int64_t b, int64_t key_head,
                          const BackwardBuffers& buffers) {
  const int64_t group = at.heads / at.key_heads;
  const int64_t q_stride = at.target_stride(at.query_stride());
  const int64_t k_stride = at.target_stride(at.key_stride());
  const Matrix k = at.key_rows(call.in.k, b, key_head, buffers.k);
  const Matrix v = at.key_rows(call.in.v, b, key_head, buffers.v);
  const Matrix k_transposed{k.data, k.stride, true}, v_transposed{v.data, v.stride, true};
  T *dkeys = at.key(call.dk, b, key_head), *dvalues = at.key(call.dv, b, key_head);
  float *dk = cpu::target(dkeys, buffers.dk), *dv = cpu::target(dvalues, buffers.dv);
  float keep = 0.0f;
  for (int64_t h = key_head * group; h < (key_head + 1) * group; ++h) {
    for (int64_t first = 0; first < at.queries; first += kQueryBlock) {
      const int64_t rows = std::min(kQueryBlock, at.queries - first);
      const Matrix q = at.query_rows(call.in.q, b, h, first, rows, buffers.q);
      const Matrix dout = at.query_rows(call.dout, b, h, first, rows, buffers.dout);
      cpu::sgemm(rows, at.keys, at.width, 1.0f, q, k_transposed, 0.0f, buffers.p, at.keys);
      cpu::sgemm(rows, at.keys, at.width, 1.0f, dout, v_transposed, 0.0f, buffers.dp, at.keys);
      score_gradients(at, loops, call, b, h, first, rows, buffers);
      cpu::sgemm(at.keys, at.width, rows, 1.0f, {buffers.p, at.keys, true}, dout, keep, dv,
                 k_stride);
      T* dqueries = at.query(call.dq, b, first, h);
      float* dq = cpu::target(dqueries, buffers.dq);
      cpu::sgemm(rows, at.width, at.keys, at.scale, {buffers.dp, at.keys}, k, 0.0f, dq, q_stride);
      at.store_rows(dq, dqueries, at.query_stride(), rows);
      cpu::sgemm(at.keys, at.width, rows, at.scale, {buffers.dp, at.keys, true}, q, keep, dk,
                 k_stride);
      keep = 1.0f;
    }
  }
  at.store_rows(dk, dkeys, at.key_stride(), at.keys);
  at.store_rows(dv, dvalues, at.key_stride(), at.keys);
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
  if (in.q.elements() == 0) {
    for (TensorView gradient : {dk, dv, ddistance_bias}) {
      if (gradient.elements() > 0) fill_zero(ctx, gradient);
    }
    return;
  }
  const ScratchScope scope(ctx.scratch);
  BackwardCall call{in, log_sum_exp, dout, dq, dk, dv, nullptr};
  cpu::with_activation(in.q.dtype(), [&](auto zero) {
    const Heads<decltype(zero)> at(in, loops_);
    const int64_t group = at.heads / at.key_heads;
    if (!ddistance_bias.absent()) {
      const Shape parts{at.batch, at.heads, at.distances};
      call.dbias = ctx.scratch.allocate(DType::kFloat32, parts).template data<float>();
    }
    const auto compute = [&](int64_t unit, int thread) {
      const int64_t b = unit / at.key_heads, key_head = unit % at.key_heads;
      if (call.dbias != nullptr) {
        std::fill_n(call.dbias + (b * at.heads + key_head * group) * at.distances,
                    group * at.distances, 0.0f);
      }
      const Floats buffer(team_.buffer(thread, BackwardBuffers::floats(at)));
      backward_of_key_head(at, loops_, call, b, key_head, BackwardBuffers(at, buffer));
    };
    team_.units(at.batch * at.key_heads, at.queries * at.keys * at.width, compute);
    if (call.dbias == nullptr) return;
    sum_by_leaf(call.dbias, leaves, at.heads * at.distances, loops_, ddistance_bias.data<float>());
  });
}

}  // namespace switchyard
