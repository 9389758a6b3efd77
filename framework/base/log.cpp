#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>

#include "base/check.h"
#include "base/host_name.h"
#include "base/terminal.h"
#include "base/version.h"

namespace switchyard {
namespace {

std::atomic<bool> process_speaks{true};

bool speaks() { return process_speaks && current_rank() == 0; }

// Standard output and standard error, with a status line that other lines push down.
class Console {
 public:
  // Prints "mark: line" with the mark in colour, or the line alone where `mark` is empty.
  void print(std::FILE* stream, std::string_view mark, const char* colour, std::string_view line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string text;
    if (!mark.empty()) {
      text = terminal_colours(::fileno(stream)) ? fmt::format("\x1b[{}m{}:\x1b[0m ", colour, mark)
                                                : fmt::format("{}: ", mark);
    }
    text.append(line).push_back('\n');
    // Another rank's status line may stand on the terminal that this one shares with it.
    if (stream == stderr && !speaks() && status_columns()) text.insert(0, 1, '\n');
    if (!status_.empty()) write(stdout, "\r\x1b[K");
    write(stream, text);
    if (!status_.empty()) write(stdout, status_);
  }

  void set_status(std::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text.empty() && status_.empty()) return;
    status_ = text;
    write(stdout, fmt::format("\r{}\x1b[K", text));
  }

 private:
  static void write(std::FILE* stream, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stream);
    std::fflush(stream);
  }

  std::mutex mutex_;
  std::string status_;
};

Console& console() {
  static Console made;
  return made;
}

std::mutex file_mutex;
std::shared_ptr<spdlog::logger> file;  // shared: spdlog hands loggers out like this

void write_to_file(spdlog::level::level_enum level, std::string_view line) {
  const std::lock_guard<std::mutex> lock(file_mutex);
  if (file) file->log(level, line);
}

constexpr const char* kYellow = "33";
constexpr const char* kRed = "31";

}  // namespace

void set_process_speaks(bool speaks) { process_speaks = speaks; }

void log_info(std::string_view line) {
  if (speaks()) console().print(stdout, "", "", line);
  write_to_file(spdlog::level::info, line);
}

void log_warning(std::string_view line) {
  if (speaks()) console().print(stdout, "warning", kYellow, line);
  write_to_file(spdlog::level::warn, line);
}

void log_rank_warning(std::string_view line) {
  console().print(stderr, "warning", kYellow,
                  fmt::format("[rank {} host {}] {}", current_rank(), host_name(), line));
  write_to_file(spdlog::level::warn, line);
}

void log_error(std::string_view text, bool prints) {
  if (prints) console().print(stderr, "error", kRed, text);
  write_to_file(spdlog::level::err, text);
}

void log_to_file(std::string_view line) { write_to_file(spdlog::level::info, line); }

void open_log_file(const std::filesystem::path& path, int ranks) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    auto logger = std::make_shared<spdlog::logger>("file", std::move(sink));
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e%z %l: %v");
    logger->flush_on(spdlog::level::info);
    const std::lock_guard<std::mutex> lock(file_mutex);
    file = std::move(logger);
  } catch (const spdlog::spdlog_ex& error) {
    log_rank_warning("no log file for this rank: {}", error.what());
  }
  log_to_file(fmt::format("rank {} of {} on host {}, process {}, switchyard {}", current_rank(),
                          ranks, host_name(), ::getpid(), kVersion));
}

std::optional<int> status_columns() { return terminal_columns(STDOUT_FILENO); }

void show_status(std::string_view text) { console().set_status(text); }

}  // namespace switchyard
