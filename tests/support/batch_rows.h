// Token rows for tests: a small global batch, and a rank's share of its routing groups.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "collectives/groups.h"
#include "layers/token_rows.h"
#include "tensor/tensor.h"

namespace switchyard::test {

struct GlobalBatch {
  int64_t sequences = 0, length = 0, group_sequences = 1;
  std::vector<uint8_t> real = {};      // [sequences * length]; empty: no padding
  std::vector<int32_t> ids = {};       // the same; empty: zeros
  std::vector<int32_t> position = {};  // the same; empty: as in the sequence

  int64_t tokens() const { return sequences * length; }
  // The last group may be smaller.
  int64_t groups() const { return (sequences + group_sequences - 1) / group_sequences; }
  int64_t first_sequence(int64_t group) const {
    return std::min(group * group_sequences, sequences);
  }
};

// `real` of sequences of these numbers of real tokens; negative: the padding stands at the left.
inline std::vector<uint8_t> real_tokens(const std::vector<int64_t>& counts, int64_t length) {
  std::vector<uint8_t> real;
  for (const int64_t count : counts) {
    for (int64_t i = 0; i < length; ++i) {
      real.push_back(count >= 0 ? i < count : i >= length + count);
    }
  }
  return real;
}

// A rank's TokenRows; owns their tensors.
class BatchRows {
 public:
  //   groups  of the batch, consecutive
  BatchRows(const GlobalBatch& batch, Share groups, Memory& memory)
      : first_token_(batch.first_sequence(groups.begin) * batch.length) {
    const int64_t first = batch.first_sequence(groups.begin);
    for (int64_t group = groups.begin; group <= groups.end; ++group) {
      group_sequences_.push_back(batch.first_sequence(group) - first);
      group_offsets_.push_back(group_sequences_.back() * batch.length);
    }
    const int64_t tokens = group_offsets_.back();
    std::vector<int64_t> index(static_cast<size_t>(tokens));
    std::iota(index.begin(), index.end(), first_token_);
    const auto real = part_of(batch.real, uint8_t{1}, tokens);
    std::vector<int32_t> position(static_cast<size_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      position[static_cast<size_t>(t)] = static_cast<int32_t>(t % batch.length);
    }
    if (!batch.position.empty()) position = part_of(batch.position, int32_t{0}, tokens);
    rows_ = {.sequences = group_sequences_.back(),
             .length = batch.length,
             .ids = hold(part_of(batch.ids, int32_t{0}, tokens), memory),
             .global_index = hold(index, memory),
             .real = hold(real, memory),
             .position = hold(position, memory),
             .group_offsets = group_offsets_,
             .group_sequences = group_sequences_,
             .group_tokens = batch.group_sequences * batch.length,
             .groups_of_global_batch = batch.groups()};
    rows_.segment = hold(std::vector<int32_t>(real.begin(), real.end()), memory)
                        .reshape({rows_.sequences, rows_.length});
  }
  // The whole batch.
  BatchRows(const GlobalBatch& batch, Memory& memory)
      : BatchRows(batch, Share{0, batch.groups()}, memory) {}
  BatchRows(const BatchRows&) = delete;
  BatchRows& operator=(const BatchRows&) = delete;

  const TokenRows& rows() const { return rows_; }
  int64_t first_token() const { return first_token_; }
  int64_t tokens() const { return rows_.tokens(); }

 private:
  template <typename T>
  std::vector<T> part_of(const std::vector<T>& all, T otherwise, int64_t tokens) const {
    if (all.empty()) return std::vector<T>(static_cast<size_t>(tokens), otherwise);
    return {all.begin() + first_token_, all.begin() + first_token_ + tokens};
  }
  template <typename T>
  TensorView hold(const std::vector<T>& host, Memory& memory) {
    tensors_.emplace_back(DTypeOf<T>::value, Shape{static_cast<int64_t>(host.size())}, memory);
    memory.copy_in(tensors_.back().view().raw(), host.data(), host.size() * sizeof(T));
    return tensors_.back();
  }

  int64_t first_token_;
  std::vector<int64_t> group_offsets_, group_sequences_;
  std::vector<Tensor> tensors_;
  TokenRows rows_;
};

}  // namespace switchyard::test
