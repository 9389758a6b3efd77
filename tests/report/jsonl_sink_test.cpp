#include "report/jsonl_sink.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

// Without those that say that a process starts.
std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("{\"start.step\":")) lines.push_back(line);
  }
  return lines;
}

// As "3" for a step and "3v" for an evaluation.
std::vector<std::string> steps_of(const std::filesystem::path& path) {
  std::vector<std::string> steps;
  for (const std::string& line : lines_of(path)) {
    const nlohmann::json object = nlohmann::json::parse(line);
    steps.push_back(std::to_string(object["step"].get<int64_t>()) +
                    (object.contains("validation.loss") ? "v" : ""));
  }
  return steps;
}

// What a process writes that starts after `first` steps and goes on to `last`.
void write(const std::filesystem::path& path, int64_t first, int64_t last) {
  JsonlSink sink(path);
  sink.start({.step = first});
  for (int64_t step = first + 1; step <= last; ++step) {
    sink.step({.step = step, .loss = static_cast<double>(step)});
    if (step % 2 == 0) sink.evaluation({.step = step});
  }
}

using Steps = std::vector<std::string>;

TEST(JsonlSink, AResumedRunHasEveryStepOnce) {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "metrics.jsonl";
  write(path, 0, 5);
  EXPECT_EQ(steps_of(path), (Steps{"1", "2", "2v", "3", "4", "4v", "5"}));
  write(path, 4, 6);  // from a checkpoint after step 4
  EXPECT_EQ(steps_of(path), (Steps{"1", "2", "2v", "3", "4", "4v", "5", "6", "6v"}));
  write(path, 2, 3);
  EXPECT_EQ(steps_of(path), (Steps{"1", "2", "2v", "3"}));
  write(path, 0, 1);  // no checkpoint was left
  EXPECT_EQ(steps_of(path), (Steps{"1"}));
}

TEST(JsonlSink, CutsOffALineThatWasNotFinished) {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "metrics.jsonl";
  write(path, 0, 2);
  const std::vector<std::string> whole = lines_of(path);
  for (const std::string& half : {whole[0].substr(0, 9), whole[1].substr(0, 40), whole[1]}) {
    std::ofstream(path, std::ios::app) << half;
    testing::internal::CaptureStdout();
    write(path, 2, 2);
    EXPECT_NE(testing::internal::GetCapturedStdout().find("1 lines after step 2 dropped"),
              std::string::npos);
    EXPECT_EQ(lines_of(path), whole);
  }
  write(path, 2, 3);
  EXPECT_EQ(steps_of(path), (Steps{"1", "2", "2v", "3"}));
}

}  // namespace
}  // namespace switchyard::test
