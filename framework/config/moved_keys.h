// Keys that stood elsewhere in earlier versions: old configs are told where they are now.
#pragma once

#include <span>
#include <string>

namespace switchyard {

struct MovedKey {
  const char* from;  // its path then: no key any more
  const char* to;    // its path now
};

// A key that moves or gets another name gets a row here.
std::span<const MovedKey> moved_keys();

// The path now of what stood at `path`; empty if nothing did.
std::string moved_to(const std::string& path);

}  // namespace switchyard
