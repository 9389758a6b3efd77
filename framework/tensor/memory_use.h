// What memory is taken for, so that an error of running out of it can say what holds the rest.
#pragma once

#include <string_view>
#include <utility>

#include "tensor/memory.h"

namespace switchyard {

// A Memory that asks: its class derives from this, too.
class MemoryUses {
 public:
  virtual ~MemoryUses() = default;
  // What is allocated from here on; returns what was before. The names are literals.
  virtual std::string_view exchange_use(std::string_view use) = 0;
};

// Names the allocations of a scope.
class MemoryUseScope {
 public:
  MemoryUseScope(Memory& memory, std::string_view use)
      : uses_(dynamic_cast<MemoryUses*>(&memory)), before_(use) {
    if (uses_) before_ = uses_->exchange_use(use);
  }
  ~MemoryUseScope() {
    if (uses_) uses_->exchange_use(before_);
  }
  MemoryUseScope(const MemoryUseScope&) = delete;
  MemoryUseScope& operator=(const MemoryUseScope&) = delete;

 private:
  MemoryUses* uses_;
  std::string_view before_;
};

}  // namespace switchyard
