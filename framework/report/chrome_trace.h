// Spans as a Chrome trace (JSON, "Trace Event Format"), for chrome://tracing and Perfetto: one
// process for the run, one thread for each rank.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "base/tracer.h"

namespace switchyard {

// A rank's spans as events, each with a comma behind it.
std::string chrome_events(const Tracer& tracer, int rank);

// A trace file that ranks' events are put into one after the other.
class ChromeTraceFile {
 public:
  ChromeTraceFile(const std::filesystem::path& path, const std::string& run);

  void add(const std::string& events) { file_ << events; }
  // Ends the file. Throws SpaceError where it couldn't be written.
  void close();

 private:
  std::filesystem::path path_;
  std::string run_;
  std::ofstream file_;
};

}  // namespace switchyard
