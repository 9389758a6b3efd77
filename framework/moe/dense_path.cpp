#include "moe/dense_path.h"

#include "base/reused_memory.h"

namespace switchyard {

DensePath::DensePath(std::unique_ptr<FeedForward> dense, const std::optional<RouterPlace>& place)
    : dense_(std::move(dense)) {
  if (place) gate_.emplace(place->name, *place, 2, 0.0);
}

DensePath::Saved DensePath::make_saved() const {
  Saved saved;
  saved.dense = dense_->make_saved();
  return saved;
}

TensorView DensePath::forward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                              TensorView routed, Saved& saved) {
  const TensorView y = ctx.saved.allocate(x.dtype(), x.shape());
  const TensorView dense = dense_->forward(ctx, rows, x, *saved.dense);
  if (!gate_) {
    add(ctx, routed, dense, y);
    return y;
  }
  const int64_t tokens = x.shape()[0];
  saved.both = ctx.saved.allocate(x.dtype(), {2 * tokens, x.shape()[1]});
  copy(ctx, routed, saved.both.rows(0, tokens));
  copy(ctx, dense, saved.both.rows(tokens, 2 * tokens));
  ReusedVector<int32_t> position, source(static_cast<size_t>(2 * tokens));
  position.reserve(source.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (const int64_t row : {t, tokens + t}) {
      source[static_cast<size_t>(row)] = static_cast<int32_t>(position.size());
      position.push_back(static_cast<int32_t>(row));
    }
  }
  saved.position = ctx.saved.allocate(DType::kInt32, {tokens, 2});
  saved.source = ctx.saved.allocate(DType::kInt32, {2 * tokens});
  upload(ctx, std::span<const int32_t>(position), saved.position);
  upload(ctx, std::span<const int32_t>(source), saved.source);

  saved.gate_input = gate_->input(ctx, {x, rows, {}});
  saved.share = gate_->logits(ctx, saved.gate_input);
  softmax(ctx, saved.share, saved.share);
  combine_rows(ctx, saved.both, saved.position, saved.share, y);
  return y;
}

void DensePath::backward(LayerContext& ctx, const TokenRows& rows, TensorView x, const Saved& saved,
                         TensorView dy, TensorView drouted, TensorView dx) {
  if (!gate_) {
    dense_->backward(ctx, rows, x, *saved.dense, dy, dx);
    if (drouted.raw() != dy.raw()) copy(ctx, dy, drouted);
    return;
  }
  const ScratchScope scope(ctx.scratch);
  const int64_t tokens = x.shape()[0];
  const TensorView dboth = ctx.scratch.allocate(x.dtype(), saved.both.shape());
  const TensorView dshare = ctx.scratch.allocate(saved.share.dtype(), saved.share.shape());
  combine_rows_backward(ctx, saved.both, saved.source, saved.position, saved.share, dy, dboth,
                        dshare);
  dense_->backward(ctx, rows, x, *saved.dense, dboth.rows(tokens, 2 * tokens), dx);
  softmax_backward(ctx, saved.share, dshare, dshare, Write::kOverwrite);
  gate_->backward(ctx, {x, rows, {}}, saved.gate_input, dshare, dx);
  copy(ctx, dboth.rows(0, tokens), drouted);
}

void DensePath::collect_weights(std::vector<Weight*>& weights) {
  dense_->collect_weights(weights);
  if (gate_) gate_->collect_weights(weights);
}

}  // namespace switchyard
