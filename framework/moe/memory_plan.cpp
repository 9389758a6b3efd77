#include "moe/memory_plan.h"

#include <algorithm>

#include "tensor/memory.h"

namespace switchyard {
namespace {

// Adds up tensors of an arena, each rounded up as the arena does.
class Bytes {
 public:
  // `pieces` tensors of `elements` in all.
  void add(int64_t elements, DType dtype, int64_t pieces = 1) {
    const auto alignment = static_cast<int64_t>(kAlignment);
    const int64_t size = elements * static_cast<int64_t>(size_of(dtype));
    sum_ += (size + alignment - 1) / alignment * alignment + (pieces - 1) * alignment;
  }
  void add(const Bytes& other) { sum_ += other.sum_; }
  int64_t sum() const { return sum_; }

 private:
  int64_t sum_ = 0;
};

class MemoryPlan {
 public:
  MemoryPlan(const MoeLayerSize& size, const Exchange& exchange, const Groups& groups)
      : size_(size),
        exchange_(exchange),
        groups_(groups),
        ranks_(groups.expert->size()),
        slices_(groups.tensor->size()),
        chunks_(exchange.schedule().chunks),
        in_rounds_(exchange.schedule().max_rows_per_round.has_value()),
        own_rows_(size.tokens * size.choices),
        wire_(exchange.wire_dtype(size.activations)) {
    const int64_t all = size.tokens_of_group * size.choices;
    received_ = std::min(all, exchange.schedule().max_rows_per_round.value_or(all));
    sent_ = std::min(own_rows_, ranks_ * received_);
  }

  int64_t saved() const {
    const DType scores = accurate(size_.activations);
    Bytes bytes;
    bytes.add(size_.tokens * size_.d_model, scores);             // gate_input
    bytes.add(size_.tokens * size_.experts, scores);             // logits
    bytes.add(size_.tokens * size_.experts, scores);             // probs
    bytes.add(own_rows_, scores);                                // weight
    bytes.add(own_rows_, DType::kInt32);                         // source
    bytes.add(own_rows_, DType::kInt32);                         // position
    bytes.add(own_rows_ * size_.d_model, size_.activations);     // returned
    bytes.add(size_.tokens * size_.d_model, size_.activations);  // y
    if (!in_rounds_) bytes.add(visits());
    return bytes.sum();
  }

  int64_t decisions() const {
    Bytes bytes;
    for (int i = 0; i < 3; ++i) bytes.add(own_rows_, DType::kInt32);  // expert, counted, kept
    for (int i = 0; i < 3; ++i) bytes.add(size_.groups * size_.experts, DType::kInt64);
    for (int i = 0; i < 4; ++i) bytes.add(size_.groups, DType::kInt64);
    bytes.add(size_.choices, DType::kInt64);  // dropped
    bytes.add(2, DType::kFloat64);            // weights
    return bytes.sum();
  }

  int64_t scratch() const {
    return std::max({deciding(), agreeing(), forward_round(), backward()});
  }

 private:
  DType scores() const { return accurate(size_.activations); }

  // What a round, or without rounds everything, has at the experts: index, keys, received rows,
  // their hidden activations.
  Bytes visits() const {
    Bytes bytes;
    bytes.add(received_, DType::kInt32, chunks_);
    if (size_.expert_dropout) bytes.add(received_, DType::kInt64, chunks_);
    bytes.add(received_ * size_.d_model, size_.activations, chunks_);
    const int64_t inner = size_.gated ? 3 : 2;
    bytes.add(inner * received_ * size_.d_ff, size_.activations, inner * chunks_);
    // SlicePlan; the rows of all slices have a slice of the hidden features each.
    if (slices_ > 1) {
      bytes.add(slices_ * received_, DType::kInt32, chunks_);
      if (size_.expert_dropout) bytes.add(slices_ * received_, DType::kInt64, chunks_);
    }
    return bytes;
  }

  // Moving rows of one width from senders to receivers, buffers of both ends not counted.
  Bytes moving(int64_t sent, int64_t received) const {
    Bytes bytes;
    const DType dtype = wire_;
    if (dtype != size_.activations) {
      bytes.add(sent * size_.d_model, dtype, chunks_);
      bytes.add(received * size_.d_model, dtype, chunks_);
    }
    bytes.add(exchange_.dispatch().most_work_rows(groups_, sent, received) * size_.d_model, dtype,
              3 * chunks_);
    return bytes;
  }

  Bytes rows_to_experts() const {
    Bytes bytes = moving(sent_, received_);
    bytes.add(sent_ * size_.d_model, size_.activations, chunks_);  // gathered for sending
    return bytes;
  }

  Bytes rows_to_owners() const {
    Bytes bytes = moving(received_, sent_);
    bytes.add(sent_ * size_.d_model, size_.activations, chunks_);  // before they are sorted in
    return bytes;
  }

  // What comes and goes while rows are on their way: headers, keys.
  Bytes passing() const {
    Bytes bytes;
    for (int i = 0; i < 2; ++i) bytes.add(ranks_ * 6, DType::kInt64);
    if (size_.expert_dropout) {
      bytes.add(sent_, DType::kInt64);
      bytes.add(received_, DType::kInt64);
      bytes.add(exchange_.dispatch().most_work_rows(groups_, sent_, received_), DType::kInt64, 3);
    }
    return bytes;
  }

  // What ranks with slices of the same experts give each other for a chunk: rows of all of them.
  //   tensors  of such rows: inputs and results
  Bytes rows_of_slices(int tensors) const {
    Bytes bytes;
    if (slices_ == 1) return bytes;
    const int64_t all = slices_ * received_;
    bytes.add(4 * (slices_ + 1) * (size_.experts + 2), DType::kInt64, 4);  // places, offsets
    bytes.add(2 * all, DType::kInt32, 2);                                  // index, order
    if (size_.expert_dropout) bytes.add(all, DType::kInt64);
    for (int i = 0; i < tensors; ++i) bytes.add(all * size_.d_model, size_.activations);
    if (scores() != size_.activations) {  // widened for the sum
      bytes.add(all * size_.d_model, scores());
      bytes.add(received_ * size_.d_model, scores());
    }
    return bytes;
  }

  int64_t deciding() const {
    Bytes bytes;
    bytes.add(own_rows_, scores());                          // priority
    bytes.add(own_rows_, DType::kInt32);                     // kept, without padding
    bytes.add(size_.groups * size_.experts, DType::kInt64);  // room
    bytes.add(size_.tokens, DType::kInt64);                  // order of priorities
    return bytes.sum();
  }

  int64_t agreeing() const {
    Bytes bytes = passing();
    bytes.add(size_.groups * size_.experts, DType::kInt64);
    bytes.add(size_.groups_of_group * size_.experts, DType::kInt64);
    bytes.add(size_.experts + 1, DType::kInt32);  // order_choices
    return bytes.sum();
  }

  int64_t forward_round() const {
    Bytes bytes = rows_to_experts();
    bytes.add(rows_to_owners());
    bytes.add(passing());
    if (in_rounds_) bytes.add(visits());
    bytes.add(received_ * size_.d_model, size_.activations, chunks_);  // computed
    bytes.add(rows_of_slices(2));
    return bytes.sum();
  }

  int64_t backward() const {
    Bytes bytes;
    bytes.add(own_rows_ * size_.d_model, size_.activations);  // dreturned
    bytes.add(own_rows_, scores());                           // dweight
    bytes.add(own_rows_ * size_.d_model, size_.activations);  // drows
    Bytes round = rows_to_experts();
    round.add(rows_to_owners());
    round.add(passing());
    if (in_rounds_) {
      round.add(visits());
      round.add(rows_to_experts());  // once more
    }
    round.add(received_ * size_.d_model, size_.activations, chunks_);  // dcomputed
    round.add(received_ * size_.d_model, size_.activations, chunks_);  // dreceived
    round.add(received_ * size_.d_ff, size_.activations, chunks_);     // dhidden
    if (size_.gated) {
      round.add(received_ * size_.d_ff, size_.activations);     // dgate
      round.add(received_ * size_.d_model, size_.activations);  // the gate's part of dreceived
    }
    round.add(received_ * size_.d_model, size_.activations);  // of a weight gradient
    round.add(rows_of_slices(size_.gated ? 4 : 3));
    Bytes router;
    router.add(size_.tokens * size_.experts, scores(), 2);
    router.add(size_.tokens * size_.experts, scores());
    router.add(size_.tokens * size_.d_model, scores(), 2);
    return bytes.sum() + std::max(round.sum(), router.sum());
  }

  const MoeLayerSize& size_;
  const Exchange& exchange_;
  const Groups& groups_;
  int64_t ranks_, slices_, chunks_;
  bool in_rounds_;
  int64_t own_rows_;         // of this rank's tokens
  int64_t received_, sent_;  // of one round
  DType wire_;
};

}  // namespace

MoeLayerBytes planned_bytes(const MoeLayerSize& size, const Exchange& exchange,
                            const Groups& groups) {
  const MemoryPlan plan(size, exchange, groups);
  return {.saved = plan.saved(), .decisions = plan.decisions(), .scratch = plan.scratch()};
}

}  // namespace switchyard
