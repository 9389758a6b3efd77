// Stream and memory that a rank computes with.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "layers/layer_context.h"

namespace switchyard {

// Host elements as a new tensor [n] of the context's device, in ctx.saved.
template <typename T>
TensorView to_device(LayerContext& ctx, const std::vector<T>& host) {
  const TensorView view = ctx.saved.allocate(DTypeOf<T>::value, {std::ssize(host)});
  upload(ctx, std::span<const T>(host), view);
  return view;
}

class Workspace {
 public:
  //   tracer  of what is computed with its contexts; null: none
  Workspace(Kernels& kernels, const Groups& groups, uint64_t seed, Tracer* tracer = nullptr)
      : kernels_(kernels),
        groups_(groups),
        seed_(seed),
        tracer_(tracer),
        stream_(kernels.make_stream()),
        scratch_(std::in_place, kernels.memory()),
        saved_(std::in_place, kernels.memory()),
        decisions_(std::in_place, kernels.memory()) {}

  //   step  keys the random numbers: number of the update, from 0
  LayerContext context(bool training, int64_t step) {
    return {{.kernels = kernels_,
             .stream = *stream_,
             .scratch = *scratch_,
             .flops = &flops_,
             .ordered = ordered_ ? &*ordered_ : nullptr,
             .tracer = tracer_},
            *saved_,
            *decisions_,
            groups_,
            training,
            /*replay=*/false,
            seed_,
            static_cast<uint32_t>(step)};
  }
  // Contexts sum gradients with train.reduction: ordered from here on; see OrderedSums.
  void order_sums(int64_t leaves, int64_t leaf_rows) {
    refused_ = Tensor(DType::kInt64, {1}, kernels_.memory());
    ordered_ = OrderedSums{leaves, leaf_rows, refused_};
  }
  // Forgets what the last step counted.
  void begin_step() {
    flops_.clear();
    if (!ordered_) return;
    LayerContext ctx = context(true, 0);
    fill_zero(ctx, refused_);
  }
  // Of everything computed with its contexts since begin_step.
  const FlopCounter& flops() const { return flops_; }
  // Ends the work on a micro-batch, with or without what replays it.
  void release_activations() { saved_->release_all(); }
  void release() {
    saved_->release_all();
    decisions_->release_all();
  }
  size_t capacity_bytes() const {
    return scratch_->capacity_bytes() + saved_->capacity_bytes() + decisions_->capacity_bytes();
  }
  // Bytes of the arenas.
  struct Sizes {
    int64_t scratch = 0, saved = 0, decisions = 0;
    int64_t total() const { return scratch + saved + decisions; }
  };
  Sizes capacities() const {
    return {static_cast<int64_t>(scratch_->capacity_bytes()),
            static_cast<int64_t>(saved_->capacity_bytes()),
            static_cast<int64_t>(decisions_->capacity_bytes())};
  }
  // The most that was in use since they were made.
  Sizes high_waters() const {
    return {static_cast<int64_t>(scratch_->high_water_bytes()),
            static_cast<int64_t>(saved_->high_water_bytes()),
            static_cast<int64_t>(decisions_->high_water_bytes())};
  }
  // Makes the arenas anew, of one block each; nothing may be in use.
  void resize(const Sizes& sizes) {
    const auto make = [&](std::optional<Arena>& arena, int64_t size) {
      arena.reset();  // before the new one takes its memory
      arena.emplace(kernels_.memory(), static_cast<size_t>(size));
    };
    make(scratch_, sizes.scratch);
    make(saved_, sizes.saved);
    make(decisions_, sizes.decisions);
  }
  // The most that stood between a forward and its backward.
  size_t saved_high_water_bytes() const {
    return saved_->high_water_bytes() + decisions_->high_water_bytes();
  }

 private:
  Kernels& kernels_;
  const Groups& groups_;
  uint64_t seed_;
  Tracer* tracer_;
  std::unique_ptr<Stream> stream_;
  std::optional<Arena> scratch_, saved_, decisions_;
  FlopCounter flops_;
  Tensor refused_;
  std::optional<OrderedSums> ordered_;
};

}  // namespace switchyard
