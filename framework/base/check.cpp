#include "base/check.h"

namespace switchyard {

static thread_local int rank_of_this_thread = 0;

int current_rank() { return rank_of_this_thread; }
void set_current_rank(int rank) { rank_of_this_thread = rank; }

void internal::fail_check(const char* file, int line, const char* condition,
                          const std::string& parts) {
  std::ostringstream what, where;
  what << "internal check failed: " << condition;
  if (!parts.empty()) what << ": " << parts;
  where << file << ":" << line << ", rank " << current_rank();
  throw Error(ExitCode::kDefect, what.str(), where.str(),
              "this is a defect of the program: please report it with the config");
}

}  // namespace switchyard
