#include "report/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/errors.h"
#include "report/jsonl_sink.h"
#include "report/made_up_run.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::ElementsAre;

class RunLogs : public testing::Test {
 protected:
  // A process that works on steps first to last, with an evaluation after the last one.
  void train(int64_t first, int64_t last, double loss) const {
    JsonlSink sink(metrics_);
    sink.start({.step = first - 1, .steps = 10, .ranks = 2, .device = "cpu", .parameters = 99});
    for (int64_t step = first; step <= last; ++step) {
      StepRecord record = made_up_step(step, 2, 3);
      record.loss = loss;
      sink.step(record);
    }
    sink.evaluation(made_up_evaluation(last, 2, 3, {"north", "south"}));
  }
  void write(const std::string& text) const { write_text(metrics_, text); }
  std::string read() const {
    std::ifstream file(metrics_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TemporaryDirectory directory_;
  const std::filesystem::path metrics_ = directory_.path() / "metrics.jsonl";
};

TEST_F(RunLogs, HoldWhatTheSinkWrote) {
  train(1, 10, 5.0);
  write_text(directory_.path() / "config.yaml", "name: x\n");
  const RunLog log = read_run_log(directory_.path());
  EXPECT_EQ(log.name, directory_.path().filename());
  EXPECT_EQ(log.config_text, "name: x\n");
  EXPECT_TRUE(log.finished());
  EXPECT_EQ(log.times_resumed(), 0);
  EXPECT_EQ(log.starts.at(0).ranks, 2);
  EXPECT_EQ(log.starts.at(0).parameters, 99);
  ASSERT_EQ(log.steps.size(), 10u);
  EXPECT_EQ(log.gradient_norm[3], made_up_step(4, 0, 0).gradient_norm);
  EXPECT_EQ(log.flops.at(3), 4000);
  ASSERT_EQ(log.layers.size(), 2u);
  EXPECT_EQ(log.layers[1].name, "encoder.block.3.moe");
  ASSERT_EQ(log.evaluations.size(), 1u);
  EXPECT_THAT(log.evaluations[0].layers.at(0).load_by_label,
              ElementsAre(ElementsAre(1, 9, 17), ElementsAre(18, 3, 11)));
  EXPECT_EQ(log.unreadable_lines, 0);
}

TEST_F(RunLogs, SpansHoldEveryTokenOnce) {
  train(1, 10, 5.0);
  const RunLog log = read_run_log(directory_.path());
  double expected = 0;
  for (int64_t step = 1; step <= 10; ++step) {
    const StepRecord record = made_up_step(step, 2, 3);
    for (const int64_t load : record.layers[1].load) expected += static_cast<double>(load);
  }
  const std::vector<double>& load = log.layers[1].load;
  EXPECT_EQ(std::accumulate(load.begin(), load.end(), 0.0), expected);
  EXPECT_EQ(log.span_begin(0), 1);
  EXPECT_EQ(log.span_begin(log.spans()), 11);
  // The last tenth is the last step.
  const std::vector<int64_t> last = made_up_step(10, 2, 3).layers[1].load;
  EXPECT_THAT(log.layers[1].recent_load,
              ElementsAre(static_cast<double>(last[0]), static_cast<double>(last[1]),
                          static_cast<double>(last[2])));
}

TEST_F(RunLogs, AResumedRunsLaterLinesCount) {
  train(1, 7, 5.0);
  train(5, 10, 4.0);
  const RunLog log = read_run_log(directory_.path());
  EXPECT_THAT(log.steps, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_EQ(log.loss[3], 5.0);
  EXPECT_EQ(log.loss[4], 4.0);
  ASSERT_EQ(log.evaluations.size(), 1u);  // the one after step 7 is void
  EXPECT_EQ(log.evaluations[0].step, 10);
  EXPECT_EQ(log.times_resumed(), 1);
}

// As files were before processes said that they start.
TEST_F(RunLogs, WithoutStartsAStepThatStandsTwiceDoesTheSame) {
  write("{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":5}\n{\"step\":3,\"loss\":5}\n");
  write("{\"step\":2,\"loss\":4}\n");
  const RunLog log = read_run_log(directory_.path());
  EXPECT_THAT(log.steps, ElementsAre(1, 2));
  EXPECT_THAT(log.loss, ElementsAre(5, 4));
  EXPECT_FALSE(log.finished());
}

TEST_F(RunLogs, ACutLastLineIsLeftOut) {
  train(1, 6, 5.0);
  write("{\"step\":7,\"loss\":4.5,\"load_ba");
  RunLog log = read_run_log(directory_.path());
  EXPECT_EQ(log.last_step(), 6);
  EXPECT_EQ(log.unreadable_lines, 1);
  EXPECT_FALSE(log.finished());
  // The sink takes the rest away before it goes on.
  train(7, 10, 4.0);
  log = read_run_log(directory_.path());
  EXPECT_EQ(log.last_step(), 10);
  EXPECT_EQ(log.unreadable_lines, 0);
  EXPECT_TRUE(log.finished());
}

TEST_F(RunLogs, AFileThatIsOneCutLineIsEmptiedBeforeItIsWrittenTo) {
  write("{\"step\":7,\"loss\":4.");
  train(1, 1, 4.0);
  EXPECT_EQ(read().find("{\"start.step\":0"), 0u);
  EXPECT_EQ(read_run_log(directory_.path()).last_step(), 1);
}

TEST_F(RunLogs, GarbageShuffledInputsAndNullsDoNoHarm) {
  train(1, 2, 5.0);
  write(
      "no "
      "json\n[1]\n{}\n\n{\"step\":3,\"loss\":null,\"seconds\":null,\"moe\":[{\"load\":[1]},7]}\n");
  EvaluationRecord shuffled = made_up_evaluation(3, 2, 3, {"north", "south"});
  shuffled.inputs_shuffled = true;
  JsonlSink sink(metrics_);
  sink.start({.step = 3});
  sink.evaluation(shuffled);
  const RunLog log = read_run_log(directory_.path());
  EXPECT_THAT(log.steps, ElementsAre(1, 2, 3));
  EXPECT_TRUE(std::isnan(log.loss[2]));
  EXPECT_EQ(log.evaluations.size(), 1u);
  EXPECT_GE(log.unreadable_lines, 2);
}

TEST_F(RunLogs, WithoutStepsSayWhatToDo) {
  EXPECT_THROW(read_run_log(directory_.path()), InputError);
  EXPECT_THROW(read_run_log(directory_.path() / "gone"), InputError);
  write("{\"start.step\":0,\"start.steps\":10}\n");
  EXPECT_THROW(read_run_log(directory_.path()), InputError);
}

}  // namespace
}  // namespace switchyard::test
