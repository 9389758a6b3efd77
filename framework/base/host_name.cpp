#include "base/host_name.h"

#include <unistd.h>

namespace switchyard {

std::string host_name() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
  const std::string whole = name;
  const std::string first = whole.substr(0, whole.find('.'));
  return first.empty() ? "unknown" : first;
}

}  // namespace switchyard
