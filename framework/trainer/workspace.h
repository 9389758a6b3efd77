// Stream and memory that a rank computes with.
#pragma once

#include <memory>

#include "layers/layer_context.h"

namespace switchyard {

class Workspace {
 public:
  Workspace(Kernels& kernels, const Groups& groups, uint64_t seed)
      : kernels_(kernels),
        groups_(groups),
        seed_(seed),
        stream_(kernels.make_stream()),
        scratch_(kernels.memory()),
        saved_(kernels.memory()) {}

  //   step  keys the random numbers: number of the update, from 0
  LayerContext context(bool training, int64_t step) {
    return {{.kernels = kernels_, .stream = *stream_, .scratch = scratch_, .flops = &flops_},
            saved_,
            groups_,
            training,
            /*replay=*/false,
            seed_,
            static_cast<uint32_t>(step)};
  }
  Arena& saved() { return saved_; }
  // Of everything computed with its contexts.
  FlopCounter& flops() { return flops_; }
  size_t capacity_bytes() const { return scratch_.capacity_bytes() + saved_.capacity_bytes(); }

 private:
  Kernels& kernels_;
  const Groups& groups_;
  uint64_t seed_;
  std::unique_ptr<Stream> stream_;
  Arena scratch_, saved_;
  FlopCounter flops_;
};

}  // namespace switchyard
