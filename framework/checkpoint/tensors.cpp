#include "checkpoint/tensors.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"

namespace switchyard {
namespace {

std::string expert_name(const std::string& name, int64_t expert) {
  return std::string(name).replace(name.find('*'), 1, std::to_string(expert));
}

// Appends the tensor that `value` is a part or the whole of.
void append(std::vector<GlobalTensor>& tensors, const Weight& weight, TensorPart part,
            const std::string& state, TensorView value) {
  const std::string suffix = state.empty() ? "" : "/" + state;
  GlobalTensor tensor{.name = weight.name() + suffix,
                      .part = part,
                      .dtype = value.dtype(),
                      .shape = value.shape(),
                      .weight = &weight,
                      .held = true,
                      .value = value,
                      .runs = {1, value.elements(), 0, value.elements()}};
  if (!weight.is_expert()) {
    tensors.push_back(std::move(tensor));
    return;
  }
  const ExpertRange& range = weight.experts();
  SWITCHYARD_CHECK(value.shape().rank() >= 1 && value.shape()[0] == range.count, tensor.name, " ",
                   value.shape(), " for ", range.count, " experts");
  const auto of_one = [](const Shape& stacked) {
    std::vector<int64_t> sizes;
    for (int i = 1; i < stacked.rank(); ++i) sizes.push_back(stacked[i]);
    return Shape(sizes);
  };
  const Shape held = of_one(value.shape());
  tensor.sliced = weight.is_sliced() && value.shape() == weight.shape();
  tensor.shape = tensor.sliced ? of_one(weight.whole_shape()) : held;
  tensor.runs = {1, held.elements(), 0, held.elements()};
  if (tensor.sliced) tensor.runs = weight.runs();
  for (tensor.expert = 0; tensor.expert < range.total; ++tensor.expert) {
    tensor.name = expert_name(weight.name(), tensor.expert) + suffix;
    const int64_t local = tensor.expert - range.first;
    tensor.held = local >= 0 && local < range.count;
    tensor.value = tensor.held ? value.rows(local, local + 1).reshape(held) : TensorView();
    tensors.push_back(tensor);
  }
}

// A weight, or one expert of it, with its state.
struct Unit {
  std::vector<size_t> tensors;
  int64_t bytes = 0, expert = -1, experts = 0;
};

std::vector<Unit> units_of(const std::vector<GlobalTensor>& tensors) {
  std::map<std::pair<const Weight*, int64_t>, size_t> place;
  std::vector<Unit> units;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GlobalTensor& tensor = tensors[i];
    const auto [found, is_new] =
        place.try_emplace(std::pair(tensor.weight, tensor.expert), units.size());
    if (is_new) {
      units.push_back(
          {.tensors = {}, .expert = tensor.expert, .experts = tensor.weight->experts().total});
    }
    Unit& unit = units[found->second];
    unit.tensors.push_back(i);
    unit.bytes += tensor.shape.elements() * static_cast<int64_t>(size_of(tensor.dtype));
  }
  return units;
}

}  // namespace

std::vector<GlobalTensor> global_tensors(const std::vector<const Weight*>& weights,
                                         const std::vector<OptimizerState>& optimizer) {
  std::vector<GlobalTensor> tensors;
  for (const Weight* weight : weights) {
    append(tensors, *weight, TensorPart::kModel, "", weight->master());
  }
  for (const OptimizerState& state : optimizer) {
    SWITCHYARD_CHECK(state.weight != nullptr && !state.name.empty(), "optimizer state ",
                     state.name);
    append(tensors, *state.weight, TensorPart::kOptimizer, state.name, state.value);
  }
  std::set<std::string_view> names;
  for (const GlobalTensor& tensor : tensors) {
    SWITCHYARD_CHECK(names.insert(tensor.name).second, tensor.name, " is there twice");
  }
  return tensors;
}

std::vector<int> owners_of(const std::vector<GlobalTensor>& tensors, const Groups& groups) {
  const int ranks = groups.world->size(), group = groups.expert_ranks();
  const int places = groups.expert->size(), slices = groups.tensor->size();
  std::vector<Unit> units = units_of(tensors);
  // Those with a choice of few ranks first, the large before the small, which even out the rest.
  std::stable_sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) {
    const bool a_dense = a.expert < 0, b_dense = b.expert < 0;
    return a_dense != b_dense ? b_dense : a.bytes > b.bytes;
  });
  std::vector<int64_t> load(static_cast<size_t>(ranks));
  std::vector<int> owners(tensors.size());
  for (const Unit& unit : units) {
    int first = 0;  // rank of the expert group that may write it, the first of `slices`
    if (unit.expert >= 0) {
      for (int place = 0; place < places; ++place) {
        const ExpertRange range = experts_of_rank(unit.experts, places, place);
        if (unit.expert >= range.first && unit.expert < range.first + range.count) {
          first = place * slices;
        }
      }
    }
    int owner = first;
    for (int rank = first; rank < ranks; ++rank) {
      const int in_group = rank % group;
      const bool holds = unit.expert < 0 || (in_group >= first && in_group < first + slices);
      if (holds && load[static_cast<size_t>(rank)] < load[static_cast<size_t>(owner)]) {
        owner = rank;
      }
    }
    load[static_cast<size_t>(owner)] += unit.bytes;
    for (const size_t i : unit.tensors) owners[i] = owner;
  }
  return owners;
}

}  // namespace switchyard
