// SWITCHYARD_CHECK: a broken precondition between our own functions. On in release builds.
// For a user's mistakes throw ConfigError and its kin (errors.h) instead.
#pragma once

#include <sstream>

#include "base/errors.h"

namespace switchyard {

// The rank that SWITCHYARD_CHECK and log lines name; one per thread, so that threaded ranks differ.
int current_rank();
void set_current_rank(int rank);

namespace internal {

[[noreturn]] void fail_check(const char* file, int line, const char* condition,
                             const std::string& parts);

template <typename... Parts>
std::string join_parts(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace internal
}  // namespace switchyard

// SWITCHYARD_CHECK(rows == x.rows(), "rows ", rows, " against x ", x.rows());
// Throws Error(kDefect) with file, line, rank and the parts.
#define SWITCHYARD_CHECK(condition, ...)                                                   \
  do {                                                                                     \
    if (!(condition)) [[unlikely]]                                                         \
      ::switchyard::internal::fail_check(__FILE__, __LINE__, #condition,                   \
                                         ::switchyard::internal::join_parts(__VA_ARGS__)); \
  } while (false)
