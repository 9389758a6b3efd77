#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

#include "base/check.h"

namespace switchyard {

static std::atomic<bool> process_speaks{true};

void set_process_speaks(bool speaks) { process_speaks = speaks; }

static spdlog::logger& console() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = spdlog::stdout_logger_mt("switchyard");
    made->set_pattern("%v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

static bool speaks() { return process_speaks && current_rank() == 0; }

void log_info(std::string_view line) {
  if (speaks()) console().info(line);
}

void log_warning(std::string_view line) {
  if (speaks()) console().info("warning: {}", line);
}

}  // namespace switchyard
