#include "config/moved_keys.h"

#include <algorithm>

namespace switchyard {

std::span<const MovedKey> moved_keys() {
  static constexpr MovedKey kMoved[] = {
      {"train.checkpoint_every", "checkpoint.every"},
      {"train.keep_checkpoints", "checkpoint.keep"},
  };
  return kMoved;
}

std::string moved_to(const std::string& path) {
  const auto found = std::ranges::find(moved_keys(), path, &MovedKey::from);
  return found == moved_keys().end() ? "" : found->to;
}

}  // namespace switchyard
