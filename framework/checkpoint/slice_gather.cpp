#include "checkpoint/slice_gather.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace switchyard {
namespace {

TensorView bytes_view(std::vector<std::byte>& bytes) {
  return {bytes.data(), DType::kUint8, {static_cast<int64_t>(bytes.size())}};
}

}  // namespace

SliceGather::SliceGather(Collectives& group, std::vector<std::vector<const GlobalTensor*>> written)
    : group_(group), written_(std::move(written)) {
  for (const auto& tensors : written_) {
    rounds_ = std::max(rounds_, tensors.size());
    for (const GlobalTensor* tensor : tensors) {
      const ElementRuns& runs = tensor->runs;
      SWITCHYARD_CHECK(tensor->held && runs.first == group.rank() * runs.length &&
                           runs.stride == group.size() * runs.length,
                       tensor->name, " is not sliced evenly over the ", group.size(), " ranks");
    }
  }
}

std::span<const std::byte> SliceGather::next() {
  SWITCHYARD_CHECK(round_ < written_[rank()].size(), "slice gather ", round_);
  const GlobalTensor& tensor = *written_[rank()][round_];
  exchange();
  const auto length = static_cast<size_t>(tensor.runs.length) * size_of(tensor.dtype);
  whole_.resize(received_.size());
  const std::byte* from = received_.data();
  for (size_t slice = 0; slice < written_.size(); ++slice) {
    for (int64_t run = 0; run < tensor.runs.count; ++run, from += length) {
      const size_t first = (static_cast<size_t>(run) * written_.size() + slice) * length;
      std::memcpy(whole_.data() + first, from, length);
    }
  }
  return whole_;
}

void SliceGather::finish() {
  while (round_ < rounds_) exchange();
}

// Sends this rank's slice of each rank's tensor of the round.
void SliceGather::exchange() {
  std::vector<int64_t> send_rows, receive_rows;
  sent_.clear();
  received_.clear();
  for (size_t writer = 0; writer < written_.size(); ++writer) {
    size_t size = 0;
    if (round_ < written_[writer].size()) {
      const GlobalTensor& tensor = *written_[writer][round_];
      size = tensor.value.size_bytes();
      sent_.resize(sent_.size() + size);
      tensor.weight->memory().copy_out(sent_.data() + sent_.size() - size, tensor.value.raw(),
                                       size);
      if (writer == rank()) received_.resize(size * written_.size());
    }
    send_rows.push_back(static_cast<int64_t>(size));
  }
  receive_rows.assign(written_.size(), static_cast<int64_t>(received_.size() / written_.size()));
  InlineStream stream;
  group_.all_to_all(stream, bytes_view(sent_), send_rows, bytes_view(received_), receive_rows)
      ->wait();
  ++round_;
}

}  // namespace switchyard
