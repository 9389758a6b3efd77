// Lines for people. Rank 0 speaks on standard output; every error is on standard error; each rank's
// lines are in its log file too, with time stamps, once that is open.
// Nothing here is for machines: those read metrics.jsonl.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string_view>

namespace switchyard {

// Prints the line on rank 0 (of this job), once, flushed. Other ranks only write it to their files.
void log_info(std::string_view line);
// As log_info, marked "warning: ". For what concerns the whole job and every rank comes upon.
void log_warning(std::string_view line);
// A warning that this rank alone has reason for: printed whatever rank it is, on standard error,
// with rank and host.
void log_rank_warning(std::string_view line);
// An error as a user reads it, marked "error: ".
//   prints  whether this rank is the one to print it; the file has it anyway
void log_error(std::string_view text, bool prints);
// Writes a line that is not for the console to this rank's file.
void log_to_file(std::string_view line);

// From now on this rank's lines are appended to `path` as well; its folders are made. A file that
// cannot be written is warned of.
//   ranks  of this job, for the first line
void open_log_file(const std::filesystem::path& path, int ranks);

// Called by main when MPI is up; until then this process speaks.
void set_process_speaks(bool speaks);

// The columns that a status line has on standard output; empty where there is no terminal to redraw
// it on. See base/terminal.h.
std::optional<int> status_columns();
// Keeps `text` below all lines, in place of the status line before it; empty takes that away. Rank
// 0 calls it, with text narrower than the terminal.
void show_status(std::string_view text);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_info(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_warning(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}
template <typename... Args>
void log_rank_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_rank_warning(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace switchyard
