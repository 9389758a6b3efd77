#include "trainer/profile.h"

#include <algorithm>
#include <optional>

#include "report/chrome_trace.h"
#include "trainer/metrics.h"

namespace switchyard {

ProfileRecord profile_of(Collectives& world, const Tracer& tracer, int64_t step) {
  const auto ranks = static_cast<size_t>(world.size()), here = static_cast<size_t>(world.rank());
  ProfileRecord record{.step = step, .steps = tracer.outermost(), .ranks = world.size()};
  std::vector<double> seconds(ranks * kPhases);  // [ranks, phases]
  const double steps = std::max<double>(static_cast<double>(record.steps), 1);
  for (size_t i = 0; i < kPhases; ++i) {
    seconds[here * kPhases + i] = tracer.seconds(static_cast<Phase>(i)) / steps;
  }
  seconds = sum_over_ranks(world, seconds);
  for (size_t i = 0; i < kPhases; ++i) {
    PhaseRecord phase{.name = std::string(name_of(static_cast<Phase>(i))), .least = seconds[i]};
    for (size_t rank = 0; rank < ranks; ++rank) {
      const double of_rank = seconds[rank * kPhases + i];
      phase.seconds += of_rank / static_cast<double>(ranks);
      phase.least = std::min(phase.least, of_rank);
      phase.most = std::max(phase.most, of_rank);
    }
    record.step_seconds += phase.seconds;
    record.phases.push_back(phase);
  }
  const double other = record.phases[static_cast<size_t>(Phase::kOther)].seconds;
  if (record.step_seconds > 0) record.accounted = 1 - other / record.step_seconds;
  return record;
}

// The text of one rank on rank 0; nothing on the others.
static std::string send_to_first(Collectives& world, int from, std::string text) {
  InlineStream stream;
  const bool sends = world.rank() == from, receives = world.rank() == 0;
  auto size = static_cast<int64_t>(text.size());
  world.broadcast(stream, TensorView(&size, DType::kInt64, {1}), from)->wait();
  std::vector<int64_t> sent(static_cast<size_t>(world.size())), received(sent);
  if (sends) sent.front() = size;
  if (receives) received[static_cast<size_t>(from)] = size;
  std::string arrived(static_cast<size_t>(receives ? size : 0), '\0');
  world
      .all_to_all(stream, TensorView(text.data(), DType::kUint8, {sends ? size : 0}), sent,
                  TensorView(arrived.data(), DType::kUint8, {receives ? size : 0}), received)
      ->wait();
  return arrived;
}

// One rank after the other, so that rank 0 never holds more than one rank's text beside its own.
void write_trace(Collectives& world, const Tracer& tracer, const std::filesystem::path& path,
                 const std::string& run) {
  const std::string mine = chrome_events(tracer, world.rank());
  std::optional<ChromeTraceFile> file;
  if (world.rank() == 0) file.emplace(path, run).add(mine);
  for (int rank = 1; rank < world.size(); ++rank) {
    const std::string events = send_to_first(world, rank, mine);
    if (file) file->add(events);
  }
  if (file) file->close();
}

}  // namespace switchyard
