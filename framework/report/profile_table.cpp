#include "report/profile_table.h"

#include <fmt/format.h>

namespace switchyard {

std::vector<std::string> profile_table(const ProfileRecord& record) {
  const bool several = record.ranks > 1;
  std::vector<std::string> lines;
  lines.push_back(fmt::format("time by phase: {} steps of {:.2f} ms on {} ranks", record.steps,
                              record.step_seconds * 1e3, record.ranks));
  lines.push_back(fmt::format("  {:<10}  {:>10}  {:>7}{}", "phase", "ms a step", "share",
                              several ? "  of a rank: least, most" : ""));
  for (const PhaseRecord& phase : record.phases) {
    if (phase.most == 0) continue;
    std::string line = fmt::format("  {:<10}  {:>10.3f}  {:>5.1f} %", phase.name,
                                   phase.seconds * 1e3, 100 * phase.seconds / record.step_seconds);
    if (several) line += fmt::format("  {:>10.3f}  {:>10.3f}", phase.least * 1e3, phase.most * 1e3);
    lines.push_back(line);
  }
  lines.push_back(
      fmt::format("  all but `other` account for {:.1f} % of the time", 100 * record.accounted));
  return lines;
}

}  // namespace switchyard
