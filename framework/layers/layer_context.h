// What a layer's forward and backward are given beside their tensors.
#pragma once

#include "collectives/groups.h"
#include "layers/token_rows.h"
#include "ops/kernels.h"

namespace switchyard {

struct LayerContext : ExecContext {
  Arena& saved;          // what backward needs, released whole after the micro-batch
  Arena& decisions;      // what a replay needs: outlives dropped activations, see MoeDecisions
  const Groups& groups;  // the ranks that share experts and replicas
  bool training = false;
  // Forward is called again for a micro-batch whose activations were dropped: saved routing
  // decisions are used, and no counter, loss, metric or bias is touched twice.
  bool replay = false;
  uint64_t seed = 0;
  uint32_t step = 0;

  // The random numbers of one use in one layer.
  //   layer  see layer_id
  RandomRows random(const TokenRows& rows, uint16_t layer, Purpose purpose) const {
    return random(rows.global_index, layer, purpose);
  }
  //   row_keys  int64 [N], see random_row
  RandomRows random(TensorView row_keys, uint16_t layer, Purpose purpose) const {
    return {{.seed = seed, .step = step, .layer = layer, .purpose = purpose}, row_keys};
  }
};

// The number that keys a block's random numbers: unique in the model, independent of the layout.
enum class StackKind : uint8_t { kEncoder = 0, kDecoder = 1 };
inline uint16_t layer_id(StackKind stack, int64_t block) {
  SWITCHYARD_CHECK(block >= 0 && block < 0x4000, "block ", block);
  return static_cast<uint16_t>(static_cast<int>(stack) * 0x4000 + block);
}
inline StackKind stack_of(uint16_t layer) { return static_cast<StackKind>(layer / 0x4000); }

}  // namespace switchyard
