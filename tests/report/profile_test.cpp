// A profile as people read it, and from the sink through the log to the report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/html_report.h"
#include "report/jsonl_sink.h"
#include "report/made_up_run.h"
#include "report/profile_table.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

ProfileRecord made_up_profile(int64_t ranks) {
  return {.step = 10,
          .steps = 10,
          .ranks = ranks,
          .step_seconds = 0.25,
          .phases = {{"forward", 0.1, 0.09, 0.11},
                     {"routing", 0, 0, 0},
                     {"experts", 0.14, 0.12, 0.16},
                     {"other", 0.01, 0.01, 0.01}},
          .accounted = 0.96};
}

TEST(ProfileTable, HasALineForEachPhaseThatTookTime) {
  EXPECT_THAT(profile_table(made_up_profile(1)),
              ElementsAre("time by phase: 10 steps of 250.00 ms on 1 ranks",
                          "  phase        ms a step    share",  //
                          "  forward        100.000   40.0 %",  //
                          "  experts        140.000   56.0 %",  //
                          "  other           10.000    4.0 %",
                          "  all but `other` account for 96.0 % of the time"));
  EXPECT_THAT(profile_table(made_up_profile(2))[2],
              "  forward        100.000   40.0 %      90.000     110.000");
}

class Profiles : public testing::Test {
 protected:
  void train(int64_t first, bool profiled) const {
    JsonlSink sink(directory_.path() / "metrics.jsonl");
    sink.start({.step = first - 1, .steps = 10});
    for (int64_t step = first; step <= 10; ++step) sink.step(made_up_step(step, 1, 2));
    if (profiled) sink.profile(made_up_profile(2));
  }
  RunLog log() const { return read_run_log(directory_.path()); }

  const TemporaryDirectory directory_;
};

TEST_F(Profiles, GoFromTheSinkIntoTheReport) {
  train(1, true);
  const RunLog read = log();
  ASSERT_TRUE(read.profile);
  EXPECT_EQ(read.profile->step, 10);
  EXPECT_EQ(read.profile->steps, 10);
  EXPECT_EQ(read.profile->ranks, 2);
  EXPECT_EQ(read.profile->step_seconds, 0.25);
  EXPECT_EQ(read.profile->accounted, 0.96);
  ASSERT_EQ(read.profile->phases.size(), 4u);
  EXPECT_EQ(read.unreadable_lines, 0);
  const std::string html = html_report(read);
  EXPECT_THAT(html, HasSubstr("<h3>Time by phase</h3>"));
  EXPECT_THAT(html, HasSubstr("<td>experts</td><td>140.00</td><td>56.0 %</td>"));
  EXPECT_THAT(html, Not(HasSubstr("<td>routing</td>")));
}

TEST_F(Profiles, OfStepsThatAreTrainedAgainAreGone) {
  train(1, true);
  train(6, false);
  EXPECT_FALSE(log().profile);
  EXPECT_THAT(html_report(log()), Not(HasSubstr("Time by phase")));
}

}  // namespace
}  // namespace switchyard::test
