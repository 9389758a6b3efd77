#include "data/validation_split.h"

#include <cstdint>
#include <cstring>

#include "base/hash.h"

namespace switchyard {

int ValidationSplit::find(const std::string& name) {
  const auto [entry, is_new] = indices_.try_emplace(name, static_cast<int>(parents_.size()));
  if (is_new) {
    parents_.push_back(entry->second);
    names_.push_back(name);
  }
  return root_of(entry->second);
}

int ValidationSplit::root_of(int index) {
  while (parents_[index] != index) {
    parents_[index] = parents_[parents_[index]];
    index = parents_[index];
  }
  return index;
}

void ValidationSplit::unite(const std::string& name, const std::string& other) {
  const int one = find(name), two = find(other);
  if (one == two) return;
  // The smallest name stays the root.
  if (names_[one] < names_[two]) {
    parents_[two] = one;
  } else {
    parents_[one] = two;
  }
}

bool ValidationSplit::is_validation(const std::string& name, double share) {
  const Digest digest = digest_of(names_[find(name)]);
  uint32_t word;
  std::memcpy(&word, digest.bytes.data(), sizeof word);
  return static_cast<double>(word) * 0x1p-32 < share;
}

}  // namespace switchyard
