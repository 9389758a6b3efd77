// A run's TensorBoard files, read by a reader in Python that shares no code with the writer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

// A Python that has the checksum module of Debian's python3-crc32c; empty where there is none.
std::string python(const Program& program) {
  for (const std::string candidate : {"python3", "/usr/bin/python3"}) {
    if (program.shell(candidate + " -c 'import crc32c'").exit_code == 0) return candidate;
  }
  return "";
}

class Tensorboard : public testing::Test {
 protected:
  void SetUp() override {
    python_ = python(program_);
    if (python_.empty()) GTEST_SKIP() << "needs python3 and python3-crc32c";
    program_.build_dataset();
  }

  // What the reader counted; a failed expectation where the files differ.
  std::map<std::string, int> compare(int total_steps) {
    const Outcome read = program_.shell(python_ + " " + SWITCHYARD_READ_EVENTS + " runs/small " +
                                        "5 " + std::to_string(total_steps));
    EXPECT_EQ(read.exit_code, 0) << read.err;
    std::map<std::string, int> counts;
    std::istringstream words(read.out);
    std::string name;
    for (int count = 0; words >> name >> count;) counts[name] = count;
    return counts;
  }

  Program program_;
  std::string python_;
};

const std::string kTrain = "$SWITCHYARD train small.yaml --set train.log_every=5 ";

TEST_F(Tensorboard, HoldsTheNumbersOfMetricsJsonl) {
  ASSERT_EQ(program_.shell(kTrain).exit_code, 0);
  const std::map<std::string, int> counts = compare(6);
  EXPECT_EQ(counts.at("files"), 1);
  EXPECT_EQ(counts.at("records"), 3 + 6 + 2);
  EXPECT_EQ(counts.at("scalars"), 6 * 12 + 2 * 2 * 5 + 2 * 5);  // layers at steps 5 and 6
  EXPECT_EQ(counts.at("histograms"), 2 * 2);
  EXPECT_EQ(counts.at("torn"), 0);
}

TEST_F(Tensorboard, IsWholeAfterAKillAndForgetsWhatIsTrainedAgain) {
  const std::string settings =
      "--set checkpoint.every=20 --set train.evaluate_every=25 --set train.steps=";
  const Outcome killed = program_.shell(
      kTrain + settings + "100000 & started=$!; " +
      "until [ \"$(wc -l < runs/small/metrics.jsonl)\" -gt 75 ]; do sleep 0.02; done 2> /dev/null; "
      "kill -9 $started; wait $started");
  ASSERT_EQ(killed.exit_code, 137) << killed.err;
  const std::map<std::string, int> before = compare(100'000);
  EXPECT_GE(before.at("scalars"), 70 * 9);
  EXPECT_GE(before.at("histograms"), 14 * 2);

  // What a reader sees while the last record is being written.
  ASSERT_EQ(program_.shell("truncate -s -3 runs/small/tensorboard/events*").exit_code, 0);
  const std::map<std::string, int> torn = compare(100'000);
  EXPECT_EQ(torn.at("torn"), 1);
  EXPECT_EQ(torn.at("records"), before.at("records") - 1);

  const auto last_step = program_.metrics().back()["step"].get<int64_t>();
  const int total = static_cast<int>(last_step / 5 * 5 + 10);
  const Outcome resumed = program_.shell(kTrain + settings + std::to_string(total));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resuming after step "));
  const std::map<std::string, int> after = compare(total);
  EXPECT_EQ(after.at("files"), 2);
  EXPECT_GE(after.at("scalars"), total * 9);
  EXPECT_EQ(after.at("histograms"), total / 5 * 2);
}

TEST_F(Tensorboard, IsLeftOutWhereTheConfigSaysSo) {
  ASSERT_EQ(program_.shell(kTrain + "--set run.tensorboard=false").exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(program_.path("runs/small/tensorboard")));
}

}  // namespace
}  // namespace switchyard::test
