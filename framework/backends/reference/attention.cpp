#include <cmath>
#include <limits>
#include <vector>

#include "backends/reference/matrix.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {
namespace {

using reference::Matrix;

// One call's shapes and inputs, as one query of one head sees them.
template <typename T>
class Heads {
 public:
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
  T* query_vector(TensorView x, int64_t b, int64_t i, int64_t h) const {
    return x.data<T>() + ((b * queries + i) * heads + h) * width;
  }
  T* key_vector(TensorView x, int64_t b, int64_t j, int64_t h) const {
    return x.data<T>() + ((b * keys + j) * key_heads + h / queries_per_key_head_) * width;
  }
  // Entry of a [.., heads, queries + keys - 1] row of distances.
  int64_t distance(int64_t i, int64_t j) const { return j - i + queries - 1; }

  bool visible(int64_t b, int64_t i, int64_t j) const {
    const AttentionMask& mask = in_.mask;
    if (mask.causal && j > i) return false;
    if (mask.window > 0 && j <= i - mask.window) return false;
    if (mask.key_segment.absent()) return true;
    const int32_t segment = mask.key_segment.data<int32_t>()[b * keys + j];
    if (segment == 0) return false;
    return mask.query_segment.absent() ||
           segment == mask.query_segment.data<int32_t>()[b * queries + i];
  }

  // What dropout multiplies the weight of key j by: 0 or 1 / (1 - rate).
  T dropout_factor(int64_t b, int64_t i, int64_t h, int64_t j) const {
    if (in_.dropout_rate == 0) return 1;
    const int64_t token = in_.random.token.data<int64_t>()[b * queries + i];
    const float uniform = random_uniform(in_.random.key, static_cast<uint32_t>(token),
                                         static_cast<uint32_t>(h), static_cast<uint32_t>(j));
    return uniform < static_cast<float>(in_.dropout_rate)
               ? T{0}
               : static_cast<T>(1.0 / (1.0 - in_.dropout_rate));
  }

  // Softmax over the keys of query i, before dropout; returns the scores' log-sum-exp.
  T probabilities(int64_t b, int64_t h, int64_t i, std::vector<T>& p) const {
    const T* query = query_vector(in_.q, b, i, h);
    for (int64_t j = 0; j < keys; ++j) {
      if (!visible(b, i, j)) {
        p[j] = std::numeric_limits<T>::lowest();
        continue;
      }
      const T* key = key_vector(in_.k, b, j, h);
      T dot = 0;
      for (int64_t d = 0; d < width; ++d) dot += query[d] * key[d];
      p[j] = static_cast<T>(in_.scale) * dot;
      if (!in_.distance_bias.absent()) {
        p[j] += Matrix<T>(in_.distance_bias)(h, distance(i, j));
      }
    }
    const T largest = *std::max_element(p.begin(), p.end());
    T sum = 0;
    for (T& value : p) {
      value = std::exp(value - largest);
      sum += value;
    }
    for (T& value : p) value /= sum;
    return largest + std::log(sum);
  }

 private:
  const AttentionInput& in_;

 public:
  const int64_t batch, queries, keys, heads, key_heads, width;

 private:
  const int64_t queries_per_key_head_;
};

// Where one (sequence, head)'s gradients go.
struct AttentionGradients {
  TensorView dq, dk, dv;
  TensorView dbias;  // [H, Sq + Sk - 1] of the sequence's leaf, or absent
};

// Adds what query i of head h contributes to every gradient.
template <typename T>
void backward_of_query(const Heads<T>& at, const AttentionInput& in, TensorView dout, int64_t b,
                       int64_t h, int64_t i, const AttentionGradients& gradients) {
  std::vector<T> p(static_cast<size_t>(at.keys)), dp(static_cast<size_t>(at.keys));
  at.probabilities(b, h, i, p);
  const T* dresult = at.query_vector(dout, b, i, h);

  T mean_dp = 0;  // sum of p dp: what softmax takes off every dp
  for (int64_t j = 0; j < at.keys; ++j) {
    const T dropped = at.dropout_factor(b, i, h, j);
    const T* value = at.key_vector(in.v, b, j, h);
    T* dvalue = at.key_vector(gradients.dv, b, j, h);
    T dot = 0;
    for (int64_t d = 0; d < at.width; ++d) {
      dot += dresult[d] * value[d];
      dvalue[d] += p[j] * dropped * dresult[d];
    }
    dp[j] = dropped * dot;
    mean_dp += p[j] * dp[j];
  }

  const T* query = at.query_vector(in.q, b, i, h);
  T* dquery = at.query_vector(gradients.dq, b, i, h);
  for (int64_t j = 0; j < at.keys; ++j) {
    // An invisible key's score is a constant, also for a query that sees nothing.
    if (!at.visible(b, i, j)) continue;
    const T dscore = p[j] * (dp[j] - mean_dp);
    if (!gradients.dbias.absent()) Matrix<T>(gradients.dbias)(h, at.distance(i, j)) += dscore;
    const T ddot = static_cast<T>(in.scale) * dscore;
    const T* key = at.key_vector(in.k, b, j, h);
    T* dkey = at.key_vector(gradients.dk, b, j, h);
    for (int64_t d = 0; d < at.width; ++d) {
      dquery[d] += ddot * key[d];
      dkey[d] += ddot * query[d];
    }
  }
}

}  // namespace

void ReferenceKernels::attention(ExecContext&, const AttentionInput& in, TensorView out,
                                 TensorView log_sum_exp) {
  reference::with_floating(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Heads<T> at(in);
    std::vector<T> p(static_cast<size_t>(at.keys));
    for (int64_t b = 0; b < at.batch; ++b) {
      for (int64_t h = 0; h < at.heads; ++h) {
        for (int64_t i = 0; i < at.queries; ++i) {
          const T lse = at.probabilities(b, h, i, p);
          log_sum_exp.data<T>()[(b * at.heads + h) * at.queries + i] = lse;
          T* result = at.query_vector(out, b, i, h);
          std::fill_n(result, at.width, T{0});
          for (int64_t j = 0; j < at.keys; ++j) {
            const T weight = p[j] * at.dropout_factor(b, i, h, j);
            const T* value = at.key_vector(in.v, b, j, h);
            for (int64_t d = 0; d < at.width; ++d) result[d] += weight * value[d];
          }
        }
      }
    }
  });
}

// Computes the probabilities again: exp(score - log_sum_exp) would make a query that sees nothing
// attend to every key with weight 1, since the lowest number absorbs the logarithm of the count.
void ReferenceKernels::attention_backward(ExecContext&, const AttentionInput& in, TensorView,
                                          TensorView, TensorView dout, LeafOffsets leaves,
                                          TensorView dq, TensorView dk, TensorView dv,
                                          TensorView ddistance_bias) {
  reference::with_floating(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Heads<T> at(in);
    reference::zero<T>(dq);
    reference::zero<T>(dk);
    reference::zero<T>(dv);
    if (!ddistance_bias.absent()) reference::zero<T>(ddistance_bias);
    for (size_t leaf = 0; leaf + 1 < leaves.size(); ++leaf) {
      AttentionGradients gradients{dq, dk, dv, {}};
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
  });
}

}  // namespace switchyard
