// report.html: a run told in one file that needs no network, no script and no other file. Made from
// what lies in the run's folder, so that it can be made again at any time.
#pragma once

#include <filesystem>
#include <string>

#include "report/run_log.h"

namespace switchyard {

// The page. At most 1.5 MB, whatever the run's length and size.
std::string html_report(const RunLog& log);

// Reads the run's folder and writes report.html into it, whole or not at all.
//   returns  where it is
// Throws InputError as read_run_log does, SpaceError if it can't be written.
std::filesystem::path write_html_report(const std::filesystem::path& run_directory);

}  // namespace switchyard
