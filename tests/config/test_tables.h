// Reading configs with small_tables.h.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/small_tables.h"

namespace switchyard {

inline Config read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "a.yaml", overrides, test_tables());
}

// The error that reading the text gives; fails the test if there is none.
inline ConfigError error_of(const std::string& text,
                            const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const ConfigError& error) {
    return error;
  }
  ADD_FAILURE() << "no error for:\n" << text;
  return ConfigError("none");
}

}  // namespace switchyard
