// Softmax attention by blocks of rows and keys (attention_rows.h), the softmax kept up to date from
// block to block: scores of a tile of rows stand in a core's first-level cache and nowhere else
// (Milakov & Gimelshein 2018; Dao 2022). What no row of a tile sees isn't computed. Scores,
// probabilities and sums are float32.
#include <cmath>
#include <limits>

#include "backends/cpu/attention_rows.h"
#include "backends/cpu/cpu_kernels.h"

namespace switchyard {
namespace {

using cpu::AttentionRows;
using cpu::KeyRange;
using cpu::kKeyBlock;
using cpu::kScoreStride;
using cpu::RowBlock;

constexpr float kLowest = std::numeric_limits<float>::lowest();

// A thread's buffer, cut up.
struct ForwardBuffers {
  float *q, *out;           // of the row block [rows, width], [rows, padded width]
  float *max, *sum;         // [rows]: of the scores met so far
  float *k, *v;             // panels of the key block
  float* wide;              // bfloat16 vectors of the key block as floats
  float *scores, *uniform;  // of a tile; of one row

  template <typename T>
  ForwardBuffers(const AttentionRows<T>& at, int64_t tile_rows, cpu::Floats floats)
      : q(floats.take(at.block_rows * at.width)),
        out(floats.take(at.block_rows * at.padded_width)),
        max(floats.take(at.block_rows)),
        sum(floats.take(at.block_rows)),
        k(floats.take(kKeyBlock * at.width)),
        v(floats.take(kKeyBlock * at.padded_width)),
        wide(floats.take(cpu::widened<T>(kKeyBlock * at.width))),
        scores(floats.take(tile_rows * kScoreStride)),
        uniform(floats.take(cpu::kUniformNumbers)),
        size(floats.taken()) {}

  int64_t size;
};

// One row block's pass over the keys.
template <typename T>
class ForwardPass {
 public:
  ForwardPass(const AttentionRows<T>& at, const AttentionInput& in, const cpu::VectorLoops& loops,
              const RowBlock<T>& block, const ForwardBuffers& buffers)
      : at_(at), in_(in), loops_(loops), block_(block), buffers_(buffers) {}

  void run(TensorView out, float* log_sum_exp) {
    block_.load(in_.q, buffers_.q);
    std::fill_n(buffers_.max, block_.rows, kLowest);
    std::fill_n(buffers_.sum, block_.rows, 0.0f);
    std::fill_n(buffers_.out, cpu::rounded_up(block_.rows, loops_.tile_rows) * at_.padded_width,
                0.0f);
    for (int64_t key = block_.first_key_block(); key < block_.keys_end(); key += kKeyBlock) {
      const int64_t n = std::min(kKeyBlock, at_.keys - key);
      const auto rows_of = [&](TensorView x) {
        return at_.key_rows(x, block_.b, block_.key_head, key, n, buffers_.wide);
      };
      at_.pack_columns(rows_of(in_.k), n, buffers_.k);
      at_.pack_rows(rows_of(in_.v), n, buffers_.v);
      for (int64_t tile = 0; tile < block_.tiles(); ++tile) add_keys(tile, key, n);
    }
    finish(out, log_sum_exp);
  }

 private:
  // Adds what a tile's rows see of the packed keys.
  void add_keys(int64_t tile, int64_t key, int64_t n) {
    const int64_t columns = loops_.tile_columns;
    const KeyRange range = block_.within(tile, key, n);
    if (range.begin >= range.end) return;
    const int64_t first = block_.first_of(tile);
    const int64_t padded_end = cpu::rounded_up(range.end, columns), rows = tile_rows(tile);
    for (int64_t c = range.begin; c < padded_end; c += columns) {
      cpu::multiply_tile(loops_, buffers_.q + first * at_.width, at_.width, rows,
                         buffers_.k + c * at_.width, at_.width, buffers_.scores + c, kScoreStride,
                         false);
    }
    for (int64_t row = first; row < block_.end_of(tile); ++row) {
      weigh(row, buffers_.scores + (row - first) * kScoreStride + range.begin, key + range.begin,
            padded_end - range.begin);
    }
    for (int64_t c = 0; c < at_.width; c += columns) {
      cpu::multiply_tile(loops_, buffers_.scores + range.begin, kScoreStride, rows,
                         buffers_.v + c * n + range.begin * columns, range.end - range.begin,
                         buffers_.out + first * at_.padded_width + c, at_.padded_width, true);
    }
  }

  // Rows for a product: whole tiles, into buffers that have the room, but for the few rows that
  // cost less by themselves.
  int64_t tile_rows(int64_t tile) const {
    const int64_t rows = block_.end_of(tile) - block_.first_of(tile);
    return rows <= cpu::kFewRows ? rows : loops_.tile_rows;
  }

  // One row's dot products with the keys from `key` on become the weights of their values; what was
  // summed before is brought to the new maximum.
  void weigh(int64_t row, float* scores, int64_t key, int64_t n) {
    const cpu::LoopScores made_of =
        at_.scores(block_.b, block_[row], key, std::min(n, at_.keys - key));
    float* out = buffers_.out + row * at_.padded_width;
    float& max = buffers_.max[row];
    float& sum = buffers_.sum[row];
    const float before = max;
    const float added = loops_.attention_weights(n, scores, &made_of, &max);
    if (max != before && sum != 0.0f) {
      const float factor = std::exp(before - max);
      sum *= factor;
      loops_.scale(at_.padded_width, out, factor, out);
    }
    sum += added;
    if (!at_.has_dropout()) return;
    at_.random(block_.b, block_[row], key, n, buffers_.uniform);
    loops_.dropout(n, scores, buffers_.uniform, at_.dropout_rate(), at_.dropout_keep(), scores);
  }

  void finish(TensorView out, float* log_sum_exp) {
    for (int64_t row = 0; row < block_.rows; ++row) {
      float* result = buffers_.out + row * at_.padded_width;
      loops_.scale(at_.width, result, 1.0f / buffers_.sum[row], result);
      cpu::store(loops_, at_.width, result, at_.of_row(out, block_.b, block_[row]));
      log_sum_exp[at_.entry(block_.b, block_[row])] =
          block_[row].sees_nothing ? kLowest : buffers_.max[row] + std::log(buffers_.sum[row]);
    }
  }

  const AttentionRows<T>& at_;
  const AttentionInput& in_;
  const cpu::VectorLoops& loops_;
  const RowBlock<T>& block_;
  const ForwardBuffers& buffers_;
};

}  // namespace

void CpuKernels::attention(ExecContext&, const AttentionInput& in, TensorView out,
                           TensorView log_sum_exp) {
  cpu::with_activation(in.q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const AttentionRows<T> at(in, loops_, cpu::kMostTiles);
    const int64_t tile_rows = loops_.tile_rows;
    const int64_t floats = ForwardBuffers(at, tile_rows, cpu::Floats(nullptr)).size;
    const int64_t cost = at.block_rows * at.keys * at.width / 4;
    team_.units(at.batch * at.key_heads * at.blocks, cost, [&](int64_t unit, int thread) {
      const int64_t b = unit / (at.key_heads * at.blocks),
                    key_head = unit / at.blocks % at.key_heads;
      const RowBlock<T> block(at, loops_, b, key_head, unit % at.blocks * at.block_rows);
      const ForwardBuffers buffers(at, tile_rows, cpu::Floats(team_.buffer(thread, floats)));
      ForwardPass<T>(at, in, loops_, block, buffers).run(out, log_sum_exp.data<float>());
    });
  });
}

}  // namespace switchyard
