#include "report/chrome_trace.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "base/errors.h"

namespace switchyard {

// Times are in microseconds; three decimals keep every nanosecond, so that nesting stays exact.
std::string chrome_events(const Tracer& tracer, int rank) {
  std::string text;
  auto out = std::back_inserter(text);
  fmt::format_to(
      out,
      R"({{"ph":"M","pid":0,"tid":{0},"name":"thread_name","args":{{"name":"rank {0}"}}}},
)",
      rank);
  for (const TracedSpan& span : tracer.spans()) {
    const std::string_view phase = name_of(span.phase);
    const int64_t duration_ns = span.end_ns - span.begin_ns;
    fmt::format_to(
        out, R"({{"ph":"X","pid":0,"tid":{},"ts":{}.{:03},"dur":{}.{:03},"name":"{}","cat":"{}")",
        rank, span.begin_ns / 1000, span.begin_ns % 1000, duration_ns / 1000, duration_ns % 1000,
        span.name ? span.name : phase, phase);
    if (span.number != TracedSpan::kNoNumber) {
      fmt::format_to(out, R"(,"args":{{"number":{}}})", span.number);
    }
    text += "},\n";
  }
  return text;
}

ChromeTraceFile::ChromeTraceFile(const std::filesystem::path& path, const std::string& run)
    : path_(path), run_(run), file_(path, std::ios::trunc) {
  file_ << R"({"displayTimeUnit":"ms","traceEvents":[)" << '\n';
}

void ChromeTraceFile::close() {
  const nlohmann::json process = {
      {"ph", "M"}, {"pid", 0}, {"name", "process_name"}, {"args", {{"name", run_}}}};
  file_ << process.dump() << "\n]}\n" << std::flush;
  if (!file_) {
    throw SpaceError("cannot write the trace", path_.string(),
                     "make the run directory writable or free some disk space");
  }
}

}  // namespace switchyard
