// What a training step leaves behind, on the host and under global names: what two layouts are
// compared by. Every rank of every layout lists the same items, each of the whole model, in the
// same order; of these it has the elements that it holds.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/tensors.h"
#include "collectives/groups.h"
#include "ops/exec_context.h"
#include "report/records.h"

namespace switchyard {

// What an item is, in the order in which a step makes them.
enum class Check : uint8_t {
  kChoice,
  kDrop,
  kBatch,
  kLoad,
  kLoss,
  kAuxiliaryLoss,
  kGradient,
  kGradientNorm,
  kWeight,  // updated; before the first step: as initialised
  kState,
};
const char* name_of(Check check);  // "gradient"

// A line of the table: items that are reported together.
enum class ItemGroup : uint8_t {
  kRouting,
  kLosses,
  kAuxiliaryLosses,
  kEmbeddings,
  kAttention,
  kPositionBiases,
  kNorms,
  kFeedForward,
  kRouters,
  kExperts,
  kGradientNorm,
  kOptimizerState,
};
inline constexpr size_t kItemGroups = 12;
const char* name_of(ItemGroup group);  // "position biases"

struct Item {
  Check check = Check::kLoss;
  ItemGroup group = ItemGroup::kLosses;
  std::string name;  // "decoder.block.3.moe.expert.17.wi"
  DType dtype = DType::kFloat32;
  Shape shape;                   // of the whole
  std::vector<Share> held;       // elements that this rank has, in runs
  std::vector<std::byte> bytes;  // [shape], meaningful where held; empty where nothing is

  // An item of which nothing is held.
  static Item absent(Check check, ItemGroup group, std::string name, DType dtype,
                     const Shape& shape);
  // Makes room for all elements; none is held yet.
  void allocate();
  void hold(Share elements) { held.push_back(elements); }
  template <typename T>
  T* data() {
    return reinterpret_cast<T*>(bytes.data());
  }
  template <typename T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

using Snapshot = std::vector<Item>;

void append(Snapshot& snapshot, Snapshot more);

// Copies of the weights, of their gradients, or of the optimizer's state.
Snapshot copy_tensors(ExecContext& ctx, Check check, const std::vector<GlobalTensor>& tensors);
// Of the same tensors, this rank takes over what it holds.
void restore_tensors(ExecContext& ctx, const Snapshot& whole, Check check,
                     const std::vector<GlobalTensor>& tensors);
// The summed gradients of the weights under the weights' names; those that were handed over to an
// owner are not held.
std::vector<GlobalTensor> global_gradients(const std::vector<Weight*>& weights);

// Losses, and what the mixtures did; what only says how much travelled is left out.
Snapshot record_items(const StepRecord& record);
Item gradient_norm_item(const StepRecord& record);

// What came of putting together the parts of an item that ranks hold.
struct Merged {
  std::optional<int64_t> missing;  // first element that no rank holds; the item stays as it was
  std::optional<int64_t> differs;  // first element of this rank's that another rank has otherwise,
  std::vector<std::byte> other;    // and that element there
};
// Fills in what other ranks hold. Every rank calls it, with the same items.
std::vector<Merged> make_whole(Collectives& world, std::span<Item* const> items);

// Makes every rank's `whole` that of rank 0. Every rank calls it.
void share_whole(Collectives& world, Snapshot& whole);

}  // namespace switchyard
