#include "checkpoint/placement.h"

#include <algorithm>

namespace switchyard {

Placement::Placement(const ElementRuns& runs, TensorView target, Memory& memory,
                     int64_t first_element)
    : target_(target), memory_(memory) {
  const auto bytes_of = [&](int64_t elements) {
    return elements * static_cast<int64_t>(size_of(target.dtype()));
  };
  runs_ = {runs.count, bytes_of(runs.length), bytes_of(runs.first), bytes_of(runs.stride)};
  at_ = bytes_of(first_element);
}

void Placement::put(std::span<const std::byte> bytes) {
  const int64_t end = at_ + std::ssize(bytes);
  // From the last run that begins no later than these bytes.
  const int64_t before = std::max<int64_t>(0, at_ - runs_.first);
  for (int64_t run = runs_.stride > 0 ? before / runs_.stride : 0; run < runs_.count; ++run) {
    const int64_t whole = runs_.first + run * runs_.stride;
    if (whole >= end) break;
    const int64_t from = std::max(at_, whole), to = std::min(end, whole + runs_.length);
    if (from >= to) continue;
    memory_.copy_in(static_cast<std::byte*>(target_.raw()) + run * runs_.length + (from - whole),
                    bytes.data() + (from - at_), static_cast<size_t>(to - from));
  }
  at_ = end;
}

}  // namespace switchyard
