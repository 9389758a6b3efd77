#include <cmath>
#include <limits>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Accurate;
using reference::Matrix;

// One call's shapes and inputs, as one query of one head sees them.
template <typename T>
class Heads {
 public:
  using A = Accurate<T>;

  explicit Heads(const AttentionInput& in)
      : in_(in),
        batch(in.q.shape()[0]),
        queries(in.q.shape()[1]),
        keys(in.k.shape()[1]),
        heads(in.q.shape()[2]),
        key_heads(in.k.shape()[2]),
        width(in.q.shape()[3]),
        queries_per_key_head_(heads / key_heads) {}

  // Vector of (sequence, position, head) in a tensor shaped as q, or as k and v.
  template <typename E = T>
  E* query_vector(TensorView x, int64_t b, int64_t i, int64_t h) const {
    return x.data<E>() + ((b * queries + i) * heads + h) * width;
  }
  template <typename E = T>
  E* key_vector(TensorView x, int64_t b, int64_t j, int64_t h) const {
    return x.data<E>() + ((b * keys + j) * key_heads + h / queries_per_key_head_) * width;
  }
  // Entry of a [.., heads, queries + keys - 1] row of distances.
  int64_t distance(int64_t i, int64_t j) const { return j - i + queries - 1; }

  bool visible(int64_t b, int64_t i, int64_t j) const {
    const AttentionMask& mask = in_.mask;
    const int64_t position = mask.query_start + i;
    if (mask.causal && j > position) return false;
    if (mask.window > 0 && j <= position - mask.window) return false;
    if (mask.key_segment.absent()) return true;
    const int32_t segment = mask.key_segment.data<int32_t>()[b * keys + j];
    if (segment == 0) return false;
    return mask.query_segment.absent() ||
           segment == mask.query_segment.data<int32_t>()[b * queries + i];
  }

  // What dropout multiplies the weight of key j by: 0 or 1 / (1 - rate).
  A dropout_factor(int64_t b, int64_t i, int64_t h, int64_t j) const {
    if (in_.dropout_rate == 0) return 1;
    const int64_t token = in_.random.token.data<int64_t>()[b * queries + i];
    const float uniform = random_uniform(in_.random.key, static_cast<uint32_t>(token),
                                         static_cast<uint32_t>(h), static_cast<uint32_t>(j));
    return uniform < static_cast<float>(in_.dropout_rate)
               ? A{0}
               : static_cast<A>(1.0 / (1.0 - in_.dropout_rate));
  }

  // Softmax over the keys of query i, before dropout; returns the scores' log-sum-exp.
  A probabilities(int64_t b, int64_t h, int64_t i, std::vector<A>& p) const {
    const T* query = query_vector(in_.q, b, i, h);
    for (int64_t j = 0; j < keys; ++j) {
      if (!visible(b, i, j)) {
        p[j] = std::numeric_limits<A>::lowest();
        continue;
      }
      const T* key = key_vector(in_.k, b, j, h);
      A dot = 0;
      for (int64_t d = 0; d < width; ++d) dot += query[d] * key[d];
      p[j] = static_cast<A>(in_.scale) * dot;
      if (!in_.distance_bias.absent()) {
        p[j] += Matrix<A>(in_.distance_bias)(h, distance(i, j));
      }
    }
    const A largest = *std::max_element(p.begin(), p.end());
    A sum = 0;
    for (A& value : p) {
      value = std::exp(value - largest);
      sum += value;
    }
    for (A& value : p) value /= sum;
    return largest + std::log(sum);
  }

 private:
  const AttentionInput& in_;

 public:
  const int64_t batch, queries, keys, heads, key_heads, width;

 private:
  const int64_t queries_per_key_head_;
};

// Where one (sequence, head)'s gradients are summed, in the accurate dtype.
struct AttentionGradients {
  TensorView dq, dk, dv;
  TensorView dbias;  // [H, Sq + Sk - 1] of the sequence's leaf, or absent
};

// Adds what query i of head h contributes to every gradient.
template <typename T>
void backward_of_query(const Heads<T>& at, const AttentionInput& in, TensorView dout, int64_t b,
                       int64_t h, int64_t i, const AttentionGradients& gradients) {
  using A = Accurate<T>;
  std::vector<A> p(static_cast<size_t>(at.keys)), dp(static_cast<size_t>(at.keys));
  at.probabilities(b, h, i, p);
  const T* dresult = at.query_vector(dout, b, i, h);

  A mean_dp = 0;  // sum of p dp: what softmax takes off every dp
  for (int64_t j = 0; j < at.keys; ++j) {
    const A dropped = at.dropout_factor(b, i, h, j);
    const T* value = at.key_vector(in.v, b, j, h);
    A* dvalue = at.template key_vector<A>(gradients.dv, b, j, h);
    A dot = 0;
    for (int64_t d = 0; d < at.width; ++d) {
      dot += dresult[d] * value[d];
      dvalue[d] += p[j] * dropped * dresult[d];
    }
    dp[j] = dropped * dot;
    mean_dp += p[j] * dp[j];
  }

  const T* query = at.query_vector(in.q, b, i, h);
  A* dquery = at.template query_vector<A>(gradients.dq, b, i, h);
  for (int64_t j = 0; j < at.keys; ++j) {
    // An invisible key's score is a constant, also for a query that sees nothing.
    if (!at.visible(b, i, j)) continue;
    const A dscore = p[j] * (dp[j] - mean_dp);
    if (!gradients.dbias.absent()) Matrix<A>(gradients.dbias)(h, at.distance(i, j)) += dscore;
    const A ddot = static_cast<A>(in.scale) * dscore;
    const T* key = at.key_vector(in.k, b, j, h);
    A* dkey = at.template key_vector<A>(gradients.dk, b, j, h);
    for (int64_t d = 0; d < at.width; ++d) {
      dquery[d] += ddot * key[d];
      dkey[d] += ddot * query[d];
    }
  }
}

}  // namespace

void ReferenceKernels::attention(ExecContext&, const AttentionInput& in, TensorView out,
                                 TensorView log_sum_exp) {
  reference::with_activation(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Heads<T> at(in);
    using A = Accurate<T>;
    std::vector<A> p(static_cast<size_t>(at.keys)), sum(static_cast<size_t>(at.width));
    for (int64_t b = 0; b < at.batch; ++b) {
      for (int64_t h = 0; h < at.heads; ++h) {
        for (int64_t i = 0; i < at.queries; ++i) {
          const A lse = at.probabilities(b, h, i, p);
          log_sum_exp.data<A>()[(b * at.heads + h) * at.queries + i] = lse;
          std::fill(sum.begin(), sum.end(), A{0});
          for (int64_t j = 0; j < at.keys; ++j) {
            const A weight = p[j] * at.dropout_factor(b, i, h, j);
            const T* value = at.key_vector(in.v, b, j, h);
            for (int64_t d = 0; d < at.width; ++d) sum[d] += weight * value[d];
          }
          T* result = at.query_vector(out, b, i, h);
          for (int64_t d = 0; d < at.width; ++d) result[d] = static_cast<T>(sum[d]);
        }
      }
    }
  });
}

// Computes the probabilities again: exp(score - log_sum_exp) would make a query that sees nothing
// attend to every key with weight 1, since the lowest number absorbs the logarithm of the count.
void ReferenceKernels::attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView,
                                          TensorView, TensorView dout, LeafOffsets leaves,
                                          TensorView dq, TensorView dk, TensorView dv,
                                          TensorView ddistance_bias) {
  reference::with_activation(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Heads<T> at(in);
    using A = Accurate<T>;
    const ScratchScope scope(ctx.scratch);
    const auto zeros_shaped_as = [&](TensorView x) {
      const TensorView sums = ctx.scratch.allocate(DTypeOf<A>::value, x.shape());
      reference::zero<A>(sums);
      return sums;
    };
    AttentionGradients gradients{zeros_shaped_as(dq), zeros_shaped_as(dk), zeros_shaped_as(dv), {}};
    if (!ddistance_bias.absent()) reference::zero<A>(ddistance_bias);
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      if (!ddistance_bias.absent()) {
        gradients.dbias = ddistance_bias.rows(leaf, leaf + 1).reshape(in.distance_bias.shape());
      }
      for (int64_t b = leaves[leaf]; b < leaves[leaf + 1]; ++b) {
        for (int64_t h = 0; h < at.heads; ++h) {
          for (int64_t i = 0; i < at.queries; ++i) {
            backward_of_query(at, in, dout, b, h, i, gradients);
          }
        }
      }
    }
    copy(ctx, gradients.dq, dq);
    copy(ctx, gradients.dk, dk);
    copy(ctx, gradients.dv, dv);
  });
}

}  // namespace switchyard
