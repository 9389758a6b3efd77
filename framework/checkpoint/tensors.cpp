#include "checkpoint/tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "base/check.h"
#include "checkpoint/agree.h"

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
  std::vector<bool> keepers = {};  // see GlobalTensor
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
    if (!tensor.keepers.empty()) unit.keepers = tensor.keepers;
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

namespace {

// What a rank tells of a state: enough to know the tensors that it doesn't have.
struct StateNotice {
  DType dtype = DType::kFloat32;
  Shape shape;  // of a stacked expert weight: with as many experts as the rank holds
  std::vector<bool> keepers;
};
using StateKey = std::pair<size_t, std::string>;  // number of the weight, name of the state

std::string notice_of(size_t weight, const OptimizerState& state) {
  std::string text = fmt::format("{} {} {} {}", weight, state.name,
                                 static_cast<int>(state.value.dtype()), state.value.shape().rank());
  for (int i = 0; i < state.value.shape().rank(); ++i) {
    text += fmt::format(" {}", state.value.shape()[i]);
  }
  return text + "\n";
}

std::map<StateKey, StateNotice> gather_notices(const std::vector<const Weight*>& weights,
                                               const std::vector<OptimizerState>& optimizer,
                                               Collectives& world) {
  std::string mine;
  for (const OptimizerState& state : optimizer) {
    const auto found = std::find(weights.begin(), weights.end(), state.weight);
    SWITCHYARD_CHECK(found != weights.end(), state.name, " of a weight that is not listed");
    mine += notice_of(static_cast<size_t>(found - weights.begin()), state);
  }
  std::map<StateKey, StateNotice> notices;
  const std::vector<std::string> texts = gather_texts(world, mine);
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    std::istringstream in(texts[rank]);
    StateKey key;
    int dtype = 0, dimensions = 0;
    while (in >> key.first >> key.second >> dtype >> dimensions) {
      std::vector<int64_t> sizes(static_cast<size_t>(dimensions));
      for (int64_t& size : sizes) in >> size;
      const Weight& weight = *weights.at(key.first);
      if (weight.is_expert()) sizes.at(0) = weight.experts().count;
      StateNotice& notice = notices[key];
      notice.dtype = static_cast<DType>(dtype);
      notice.shape = Shape(sizes);
      notice.keepers.resize(texts.size());
      notice.keepers[rank] = true;
    }
  }
  return notices;
}

}  // namespace

std::vector<GlobalTensor> tensors_of_job(const std::vector<const Weight*>& weights,
                                         const std::vector<OptimizerState>& optimizer,
                                         Collectives& world) {
  std::vector<OptimizerState> all;
  std::map<std::pair<const Weight*, std::string>, std::vector<bool>> keepers;
  for (const auto& [key, notice] : gather_notices(weights, optimizer, world)) {
    const Weight* weight = weights[key.first];
    const auto here = std::find_if(optimizer.begin(), optimizer.end(),
                                   [&, &name = key.second](const OptimizerState& state) {
                                     return state.weight == weight && state.name == name;
                                   });
    const TensorView elsewhere(nullptr, notice.dtype, notice.shape);
    all.push_back({key.second, weight, here != optimizer.end() ? here->value : elsewhere});
    const bool everywhere =
        std::find(notice.keepers.begin(), notice.keepers.end(), false) == notice.keepers.end();
    if (!everywhere) keepers[{weight, key.second}] = notice.keepers;
  }
  std::vector<GlobalTensor> tensors = global_tensors(weights, all);
  for (GlobalTensor& tensor : tensors) {
    if (tensor.part != TensorPart::kOptimizer) continue;
    const std::string state = tensor.name.substr(tensor.name.rfind('/') + 1);
    const auto found = keepers.find({tensor.weight, state});
    if (found == keepers.end()) continue;
    tensor.keepers = found->second;
    tensor.held = tensor.held && tensor.keepers[static_cast<size_t>(world.rank())];
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
    int owner = -1;
    for (int rank = first; rank < ranks; ++rank) {
      const int in_group = rank % group;
      const bool holds = unit.expert < 0 || (in_group >= first && in_group < first + slices);
      const bool keeps = unit.keepers.empty() || unit.keepers[static_cast<size_t>(rank)];
      if (!holds || !keeps) continue;
      if (owner < 0 || load[static_cast<size_t>(rank)] < load[static_cast<size_t>(owner)]) {
        owner = rank;
      }
    }
    SWITCHYARD_CHECK(owner >= 0, "nobody keeps ", tensors[unit.tensors.front()].name);
    load[static_cast<size_t>(owner)] += unit.bytes;
    for (const size_t i : unit.tensors) owners[i] = owner;
  }
  return owners;
}

}  // namespace switchyard
