// Sequences that a trained model is asked about: laid out on the host, then brought to where the
// model reads them. What the trainer reads is made by micro_batch.h.
#pragma once

#include <vector>

#include "trainer/workspace.h"

namespace switchyard {

// Rows of tokens on the host; 0 stands where there is none.
struct HostRows {
  int64_t sequences = 0, length = 1;
  std::vector<int32_t> ids, position, segment;  // [B, S]

  // No token anywhere yet.
  HostRows(size_t count, size_t longest);
  // A token at a place of a row.
  //   real  whether others see it: not so for padding
  void put(size_t row, size_t place, int32_t id, size_t its_position, bool real = true);
};

// The same on the device, in ctx.saved; each sequence is a routing group.
class DeviceRows {
 public:
  //   group_tokens  of a full routing group, for its capacity; 0: the rows' length
  DeviceRows(LayerContext& ctx, const HostRows& host, int64_t group_tokens = 0);
  DeviceRows(const DeviceRows&) = delete;
  DeviceRows& operator=(const DeviceRows&) = delete;

  const TokenRows& rows() const { return rows_; }

 private:
  std::vector<int64_t> sequences_, offsets_;
  TokenRows rows_;
};

// A floating-point tensor of the device, of any dtype.
std::vector<double> read_back_numbers(LayerContext& ctx, TensorView x);

}  // namespace switchyard
