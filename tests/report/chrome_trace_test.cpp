#include "report/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/errors.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

int64_t ticks = 0;
int64_t next_tick() { return ticks += 1234; }

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

TEST(ChromeTrace, HasAThreadForEachRankAndEverySpan) {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "trace.json";
  ChromeTraceFile file(path, "a \"quoted\" run");
  for (int rank = 0; rank < 2; ++rank) {
    Tracer tracer(8, next_tick);
    {
      const Span step(&tracer, Phase::kOther, "step", 3);
      const Span forward(&tracer, Phase::kForward);
    }
    file.add(chrome_events(tracer, rank));
  }
  file.close();

  const nlohmann::json events = read_json(path)["traceEvents"];
  std::map<int, std::vector<nlohmann::json>> spans;
  std::map<std::string, int> names;
  for (const nlohmann::json& event : events) {
    if (event["ph"] == "X") spans[event["tid"]].push_back(event);
    if (event["ph"] == "M") ++names[event["args"]["name"]];
  }
  EXPECT_EQ(names,
            (std::map<std::string, int>{{"rank 0", 1}, {"rank 1", 1}, {"a \"quoted\" run", 1}}));
  ASSERT_EQ(spans.size(), 2u);
  for (const auto& [rank, of_rank] : spans) {
    ASSERT_EQ(of_rank.size(), 2u);
    EXPECT_EQ(of_rank[0]["name"], "step");
    EXPECT_EQ(of_rank[0]["args"]["number"], 3);
    EXPECT_EQ(of_rank[1]["name"], "forward");
    EXPECT_EQ(of_rank[1]["cat"], "forward");
    // In microseconds: the ticks 1 to 4 of 1.234 after the start.
    EXPECT_NEAR(of_rank[0]["ts"].get<double>(), 1.234, 1e-9);
    EXPECT_NEAR(of_rank[0]["dur"].get<double>(), 3.702, 1e-9);
    EXPECT_NEAR(of_rank[1]["ts"].get<double>(), 2.468, 1e-9);
    EXPECT_NEAR(of_rank[1]["dur"].get<double>(), 1.234, 1e-9);
  }
}

TEST(ChromeTrace, SaysWhereItCannotBeWritten) {
  const TemporaryDirectory directory;
  ChromeTraceFile file(directory.path() / "none" / "trace.json", "x");
  EXPECT_THROW(file.close(), SpaceError);
}

}  // namespace
}  // namespace switchyard::test
