// Attention's gradients, by the blocks of the forward pass (attention_rows.h): scores of a row
// block and a key block are computed again from the rows' log_sum_exp, and what softmax takes off
// every probability's gradient is dout . out (Dao 2022). One unit of work is all rows of one
// sequence's key head, so that sums over them have one order.
#include <cmath>

#include "backends/cpu/attention_rows.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

using cpu::AttentionRows;
using cpu::KeyRange;
using cpu::kKeyBlock;
using cpu::kScoreStride;
using cpu::Matrix;
using cpu::RowBlock;

// Of rows that share packed keys: their weights and score gradients for a block of keys stay in a
// core's second-level cache.
constexpr int64_t kTiles = 11;

struct BackwardCall {
  const AttentionInput& in;
  TensorView out, log_sum_exp, dout, dq, dk, dv;
  float* dbias;  // [B, H, Sq + Sk - 1] or null
};

// A thread's buffer, cut up.
struct BackwardBuffers {
  float *dk, *dv;               // of all keys [keys, padded width]
  float *q, *dout, *mean, *dq;  // of the row block [rows, width]; [rows]; [rows, padded width]
  float *q_rows, *dout_rows;    // panels of the row block
  float *k_columns, *k_rows, *v_columns;  // panels of the key block
  float* wide;                            // bfloat16 vectors of the key block as floats
  float *weights, *gradients;             // [rows, kScoreStride]
  float* uniform;                         // of one row

  template <typename T>
  BackwardBuffers(const AttentionRows<T>& at, int64_t tile_rows, cpu::Floats floats)
      : dk(floats.take(cpu::rounded_up(at.keys, tile_rows) * at.padded_width)),
        dv(floats.take(cpu::rounded_up(at.keys, tile_rows) * at.padded_width)),
        q(floats.take(at.block_rows * at.width)),
        dout(floats.take(at.block_rows * at.width)),
        mean(floats.take(at.block_rows)),
        dq(floats.take(at.block_rows * at.padded_width)),
        q_rows(floats.take(at.block_rows * at.padded_width)),
        dout_rows(floats.take(at.block_rows * at.padded_width)),
        k_columns(floats.take(kKeyBlock * at.width)),
        k_rows(floats.take(kKeyBlock * at.padded_width)),
        v_columns(floats.take(kKeyBlock * at.width)),
        wide(floats.take(cpu::widened<T>(kKeyBlock * at.width))),
        weights(floats.take(at.block_rows * kScoreStride)),
        gradients(floats.take(at.block_rows * kScoreStride)),
        uniform(floats.take(cpu::kUniformNumbers)),
        size(floats.taken()) {}

  int64_t size;
};

// One row block's pass over the keys.
template <typename T>
class BackwardPass {
 public:
  BackwardPass(const AttentionRows<T>& at, const BackwardCall& call, const cpu::VectorLoops& loops,
               const RowBlock<T>& block, const BackwardBuffers& buffers)
      : at_(at), call_(call), loops_(loops), block_(block), buffers_(buffers) {}

  void run() {
    load_rows();
    for (int64_t key = block_.first_key_block(); key < block_.keys_end(); key += kKeyBlock) {
      const int64_t n = std::min(kKeyBlock, at_.keys - key);
      pack_keys(key, n);
      for (int64_t tile = 0; tile < block_.tiles(); ++tile) row_gradients(tile, key, n);
      for (int64_t k = 0; k < n; k += loops_.tile_rows) key_gradients(key, n, k);
    }
    for (int64_t row = 0; row < block_.rows; ++row) {
      cpu::store(loops_, at_.width, buffers_.dq + row * at_.padded_width,
                 at_.of_row(call_.dq, block_.b, block_[row]));
    }
  }

 private:
  void load_rows() {
    block_.load(call_.in.q, buffers_.q);
    block_.load(call_.dout, buffers_.dout);
    at_.pack_rows({buffers_.q, at_.width}, block_.rows, buffers_.q_rows);
    at_.pack_rows({buffers_.dout, at_.width}, block_.rows, buffers_.dout_rows);
    for (int64_t row = 0; row < block_.rows; ++row) {
      const T* result = at_.of_row(call_.out, block_.b, block_[row]);
      const float* out = cpu::load(loops_, at_.width, result, buffers_.dq);
      buffers_.mean[row] = loops_.dot(at_.width, buffers_.dout + row * at_.width, out);
    }
    std::fill_n(buffers_.dq, at_.block_rows * at_.padded_width, 0.0f);
  }

  void pack_keys(int64_t key, int64_t n) {
    const auto rows_of = [&](TensorView x) {
      return at_.key_rows(x, block_.b, block_.key_head, key, n, buffers_.wide);
    };
    const Matrix k = rows_of(call_.in.k);
    at_.pack_columns(k, n, buffers_.k_columns);
    at_.pack_rows(k, n, buffers_.k_rows);
    at_.pack_columns(rows_of(call_.in.v), n, buffers_.v_columns);
  }

  // Weights and score gradients of a tile's rows for the packed keys, 0 where the tile sees none;
  // adds to dq.
  void row_gradients(int64_t tile, int64_t key, int64_t n) {
    const int64_t columns = loops_.tile_columns, width = at_.width;
    const KeyRange range = block_.within(tile, key, n);
    const int64_t first = block_.first_of(tile), end = block_.end_of(tile);
    float* weights = buffers_.weights + first * kScoreStride;
    float* gradients = buffers_.gradients + first * kScoreStride;
    if (range.begin >= range.end) {
      for (float* part : {weights, gradients})
        std::fill_n(part, (end - first) * kScoreStride, 0.0f);
      return;
    }
    const int64_t padded_end = cpu::rounded_up(range.end, columns);
    const int64_t end_of_keys = cpu::rounded_up(n, loops_.tile_rows);
    for (int64_t c = range.begin; c < padded_end; c += columns) {
      cpu::multiply_tile(loops_, buffers_.q + first * width, width, loops_.tile_rows,
                         buffers_.k_columns + c * width, width, weights + c, kScoreStride, false);
      cpu::multiply_tile(loops_, buffers_.dout + first * width, width, loops_.tile_rows,
                         buffers_.v_columns + c * width, width, gradients + c, kScoreStride, false);
    }
    for (int64_t row = first; row < end; ++row) {
      float* of_row[] = {weights + (row - first) * kScoreStride,
                         gradients + (row - first) * kScoreStride};
      for (float* part : of_row) {
        std::fill(part, part + range.begin, 0.0f);
        std::fill(part + padded_end, part + std::max(padded_end, end_of_keys), 0.0f);
      }
      score_gradient(row, of_row[0] + range.begin, of_row[1] + range.begin, key + range.begin,
                     padded_end - range.begin);
    }
    for (int64_t c = 0; c < width; c += columns) {
      cpu::multiply_tile(loops_, gradients + range.begin, kScoreStride, loops_.tile_rows,
                         buffers_.k_rows + c * n + range.begin * columns, range.end - range.begin,
                         buffers_.dq + first * at_.padded_width + c, at_.padded_width, true);
    }
  }

  // From one row's dot products with the keys from `key` on, and those of dout with their values.
  void score_gradient(int64_t i, float* weights, float* gradients, int64_t key, int64_t n) {
    const int64_t b = block_.b;
    const cpu::AttentionRow& row = block_[i];
    const cpu::LoopScores made_of = at_.scores(b, row, key, std::min(n, at_.keys - key));
    cpu::LoopScoreGradient gradient{.log_sum_exp = 0.0f,
                                    .mean = buffers_.mean[i],
                                    .uniform = nullptr,
                                    .rate = at_.dropout_rate(),
                                    .keep = at_.dropout_keep(),
                                    .dbias = nullptr};
    gradient.log_sum_exp = row.sees_nothing ? std::log(static_cast<float>(at_.keys))
                                            : call_.log_sum_exp.data<float>()[at_.entry(b, row)];
    if (at_.has_dropout()) {
      at_.random(b, row, key, n, buffers_.uniform);
      gradient.uniform = buffers_.uniform;
    }
    if (call_.dbias != nullptr) {
      gradient.dbias = call_.dbias + b * at_.heads * at_.distances + at_.distance(row) + key;
    }
    loops_.attention_gradient(n, weights, gradients, &made_of, &gradient);
  }

  // Adds to the gradients of a tile of keys, the k-th of the packed ones and those behind it, what
  // the rows that see some of them contribute.
  void key_gradients(int64_t key, int64_t n, int64_t k) {
    const int64_t columns = loops_.tile_columns;
    int64_t begin = block_.rows, end = 0;
    for (int64_t tile = 0; tile < block_.tiles(); ++tile) {
      const KeyRange range = block_.within(tile, key, n);
      if (range.begin >= k + loops_.tile_rows || range.end <= k) continue;
      begin = std::min(begin, block_.first_of(tile));
      end = block_.end_of(tile);
    }
    if (begin >= end) return;
    const auto add = [&](const float* scores, const float* panels, float* sums) {
      for (int64_t c = 0; c < at_.width; c += columns) {
        const float* panel = panels + c * block_.rows + begin * columns;
        loops_.product_transposed(scores + begin * kScoreStride + k, kScoreStride, loops_.tile_rows,
                                  panel, end - begin, sums + (key + k) * at_.padded_width + c,
                                  at_.padded_width, columns, true);
      }
    };
    add(buffers_.weights, buffers_.dout_rows, buffers_.dv);
    add(buffers_.gradients, buffers_.q_rows, buffers_.dk);
  }

  const AttentionRows<T>& at_;
  const BackwardCall& call_;
  const cpu::VectorLoops& loops_;
  const RowBlock<T>& block_;
  const BackwardBuffers& buffers_;
};

// Every gradient of one sequence's key head, from all rows.
template <typename T>
void backward_of_key_head(const AttentionRows<T>& at, const BackwardCall& call,
                          const cpu::VectorLoops& loops, int64_t b, int64_t key_head,
                          const BackwardBuffers& buffers) {
  const int64_t sums = cpu::rounded_up(at.keys, loops.tile_rows) * at.padded_width;
  const int64_t group = at.heads / at.key_heads;
  for (float* of_keys : {buffers.dk, buffers.dv}) std::fill_n(of_keys, sums, 0.0f);
  if (call.dbias != nullptr) {
    std::fill_n(call.dbias + (b * at.heads + key_head * group) * at.distances, group * at.distances,
                0.0f);
  }
  for (int64_t first = 0; first < at.rows; first += at.block_rows) {
    const RowBlock<T> block(at, loops, b, key_head, first);
    BackwardPass<T>(at, call, loops, block, buffers).run();
  }
  for (int64_t key = 0; key < at.keys; ++key) {
    const int64_t place = key * at.key_stride(), from = key * at.padded_width;
    cpu::store(loops, at.width, buffers.dk + from, at.of_keys(call.dk, b, key_head) + place);
    cpu::store(loops, at.width, buffers.dv + from, at.of_keys(call.dv, b, key_head) + place);
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

void CpuKernels::attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
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
  BackwardCall call{in, out, log_sum_exp, dout, dq, dk, dv, nullptr};
  cpu::with_activation(in.q.dtype(), [&](auto zero) {
    const AttentionRows<decltype(zero)> at(in, loops_, kTiles);
    if (!ddistance_bias.absent()) {
      const Shape parts{at.batch, at.heads, at.distances};
      call.dbias = ctx.scratch.allocate(DType::kFloat32, parts).template data<float>();
    }
    const int64_t tile_rows = loops_.tile_rows;
    const int64_t floats = BackwardBuffers(at, tile_rows, cpu::Floats(nullptr)).size;
    const auto compute = [&](int64_t unit, int thread) {
      const BackwardBuffers buffers(at, tile_rows, cpu::Floats(team_.buffer(thread, floats)));
      backward_of_key_head(at, call, loops_, unit / at.key_heads, unit % at.key_heads, buffers);
    };
    team_.units(at.batch * at.key_heads, at.queries * at.keys * at.width, compute);
    if (call.dbias == nullptr) return;
    sum_by_leaf(call.dbias, leaves, at.heads * at.distances, loops_, ddistance_bias.data<float>());
  });
}

}  // namespace switchyard
