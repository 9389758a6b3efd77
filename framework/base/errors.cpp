#include "base/errors.h"

namespace switchyard {

static std::string three_lines(const std::string& what, const std::string& where,
                               const std::string& advice) {
  std::string text = what;
  if (!where.empty()) text += "\n  at " + where;
  if (!advice.empty()) text += "\n  " + advice;
  return text;
}

Error::Error(ExitCode code, std::string what, std::string where, std::string advice)
    : std::runtime_error(three_lines(what, where, advice)),
      code_(code),
      summary_(std::move(what)),
      where_(std::move(where)),
      advice_(std::move(advice)) {}

}  // namespace switchyard
