// Lines for people. Rank 0 speaks on standard output; every error is on standard error.
// Nothing here is for machines: those read metrics.jsonl.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace switchyard {

// Prints the line on rank 0 (of this job), once, flushed. Other ranks are silent.
void log_info(std::string_view line);
// As log_info, marked "warning: ".
void log_warning(std::string_view line);

// Called by main when MPI is up; until then this process speaks.
void set_process_speaks(bool speaks);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_info(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_warning(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace switchyard
