#include "config/layer_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"

namespace switchyard {

LayerSet LayerSet::list(std::vector<int64_t> layers) {
  std::sort(layers.begin(), layers.end());
  return LayerSet(Kind::kList, 0, std::move(layers));
}

bool LayerSet::contains(int64_t layer) const {
  switch (kind_) {
    case Kind::kNone:
      return false;
    case Kind::kAll:
      return true;
    case Kind::kEvery:
      return every_ == 1 || layer % every_ == 1;
    case Kind::kList:
      return std::binary_search(list_.begin(), list_.end(), layer);
  }
  SWITCHYARD_CHECK(false, "kind ", static_cast<int>(kind_));
  return false;
}

std::vector<int64_t> LayerSet::of(int64_t layers) const {
  std::vector<int64_t> chosen;
  for (int64_t layer = 0; layer < layers; ++layer)
    if (contains(layer)) chosen.push_back(layer);
  return chosen;
}

std::string LayerSet::text() const {
  switch (kind_) {
    case Kind::kNone:
      return "none";
    case Kind::kAll:
      return "all";
    case Kind::kEvery:
      return fmt::format("{{every: {}}}", every_);
    case Kind::kList:
      return fmt::format("[{}]", fmt::join(list_, ", "));
  }
  SWITCHYARD_CHECK(false, "kind ", static_cast<int>(kind_));
  return "";
}

}  // namespace switchyard
