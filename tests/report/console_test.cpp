// Progress as lines and as a bar. tests/cli runs the program on a pseudo-terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "report/console_sink.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

// Step `number` of a run, one second long.
StepRecord step_record(int64_t number, const std::vector<std::vector<int64_t>>& loads = {}) {
  StepRecord record{.step = number, .loss = 2.5, .learning_rate = 1e-3, .gradient_norm = 0.5};
  record.tokens = 12'345;
  record.seconds = 1;
  record.flops = 6'780'000'000;
  for (size_t i = 0; i < loads.size(); ++i) {
    record.layers.push_back({.name = "encoder.block." + std::to_string(i) + ".moe",
                             .load = loads[i],
                             .max_over_mean_load = 1.5 + static_cast<double>(i)});
  }
  return record;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

template <typename Body>
std::string printed(Body body) {
  testing::internal::CaptureStdout();
  body();
  return testing::internal::GetCapturedStdout();
}

TEST(ConsoleSink, ALineForTheFirstStepEveryIntervalAndTheLastStep) {
  const std::vector<std::string> lines = lines_of(printed([] {
    ConsoleSink sink({.every = 10, .total_steps = 25});
    for (int64_t step = 1; step <= 25; ++step) sink.step(step_record(step, {{5, 5}}));
  }));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], HasSubstr("step      1/25  loss 2.5000"));
  EXPECT_THAT(lines[1], HasSubstr("step     10/25"));
  EXPECT_THAT(lines[1], HasSubstr("12345 tokens/s  6.78 GFLOP/s  load max/mean 1.50"));
  EXPECT_THAT(lines[1], HasSubstr("left 0:15"));
  EXPECT_THAT(lines[3], HasSubstr("step     25/25"));
}

TEST(ConsoleSink, TheTimeLeftIsFromThisProcessAndItsEvaluations) {
  const std::vector<std::string> lines = lines_of(printed([] {
    ConsoleSink sink({.every = 2, .total_steps = 1000});
    sink.step(step_record(901));  // resumed
    sink.evaluation({.step = 901, .seconds = 3});
    sink.step(step_record(902));
  }));
  EXPECT_THAT(lines.front(), HasSubstr("left 1:39"));
  EXPECT_THAT(lines.back(), HasSubstr("left 4:05"));  // (2 + 3) / 2 s a step, 98 steps
}

TEST(ConsoleSink, NamesExpertsWithoutATokenForAWholeInterval) {
  const std::string text = printed([] {
    ConsoleSink sink({.every = 2, .total_steps = 9, .style = ProgressStyle::kNone});
    sink.step(step_record(1, {{1, 0, 3}, {0, 0, 4}}));
    sink.step(step_record(2, {{0, 2, 2}, {0, 4, 0}}));  // expert 0 of layer 1 had none
    sink.step(step_record(3, {{1, 1, 2}, {0, 2, 2}}));
    sink.step(step_record(4, {{1, 1, 2}, {0, 2, 2}}));  // said already
    sink.step(step_record(5, {{1, 1, 2}, {0, 2, 2}}));
    sink.step(step_record(6, {{1, 1, 2}, {1, 1, 2}}));
    sink.step(step_record(7, {{0, 2, 2}, {0, 4, 0}}));
    sink.step(step_record(8, {{0, 2, 2}, {0, 4, 0}}));
    sink.step(step_record(9, {{0, 0, 4}, {0, 0, 4}}));  // not a whole interval
  });
  EXPECT_EQ(text,
            "warning: experts without a token in steps 1 to 2: encoder.block.1.moe 0\n"
            "warning: experts without a token in steps 7 to 8: encoder.block.0.moe 0; "
            "encoder.block.1.moe 0 2\n");
}

TEST(ConsoleSink, NoLineIsLongerThan200BytesOrHasControlCharacters) {
  StepRecord worst = step_record(std::numeric_limits<int32_t>::max(),
                                 std::vector<std::vector<int64_t>>(40, {0, 0, 0, 0}));
  worst.loss = -1e9;
  worst.gradient_norm = worst.learning_rate = -1.23456789e300;
  worst.layers[0].max_over_mean_load = 1e6;
  worst.seconds = 1e-9;
  worst.tokens = worst.rows_exchanged = worst.flops = std::numeric_limits<int64_t>::max();
  EvaluationRecord evaluation{.step = 1, .seconds = 1e9};
  for (int i = 0; i < 60; ++i) {
    evaluation.labels.push_back({"label" + std::to_string(i), 3.5, 1});
  }
  const std::string text = printed([&] {
    ConsoleSink sink({.every = 1, .total_steps = std::numeric_limits<int64_t>::max()});
    sink.evaluation(evaluation);
    sink.step(worst);
    worst.loss = std::nan("");
    sink.step(worst);
  });
  const std::vector<std::string> lines = lines_of(text);
  EXPECT_GE(lines.size(), 7u);
  for (const std::string& line : lines) EXPECT_LE(line.size(), 200u) << line;
  for (char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << static_cast<int>(c);
  for (int i = 0; i < 60; ++i) EXPECT_THAT(text, HasSubstr(" label" + std::to_string(i) + " 3.5"));
}

ProgressFigures figures() {
  ProgressFigures figures{.last = step_record(120, {{1, 3}}), .total_steps = 1500};
  figures.last.dropped_share = 0.0123;
  figures.tokens_per_second = 12'345;
  figures.flops_per_second = 6.78e9;
  figures.seconds_left = 3723;
  return figures;
}

TEST(ProgressBar, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(progress_bar(figures(), 160),
            "[##............................]  120/1500  loss 2.500  12.3k tok/s  6.78 GFLOP/s  "
            "load 1.50  drop 1.2%  left 1:02:03");
}

TEST(ProgressBar, FitsIntoEveryWidthAndLeavesOutWhatMattersLeast) {
  std::ptrdiff_t before = 0;
  for (int columns = 1; columns <= 200; ++columns) {
    const std::string bar = progress_bar(figures(), columns);
    EXPECT_LE(static_cast<int>(bar.size()), std::max(0, columns - 1)) << columns;
    const auto pieces = std::count(bar.begin(), bar.end(), ' ');
    EXPECT_GE(pieces, before) << columns << " columns show less than fewer do: " << bar;
    before = pieces;
  }
  EXPECT_EQ(progress_bar(figures(), 80),
            "[#................]  120/1500  loss 2.500  12.3k tok/s  load 1.50  left 1:02:03");
  EXPECT_EQ(progress_bar(figures(), 40), "120/1500  loss 2.500  left 1:02:03");
}

TEST(ProgressBar, TheBarIsEmptyAtTheStartAndFullAtTheEnd) {
  ProgressFigures at = figures();
  at.last.step = 0;
  EXPECT_THAT(progress_bar(at, 160), HasSubstr("[......"));
  at.last.step = 1500;
  EXPECT_THAT(progress_bar(at, 160), HasSubstr("#]"));
  at.seconds_left = 3 * 86'400 + 4 * 3600 + 5 * 60;
  EXPECT_THAT(progress_bar(at, 160), HasSubstr("left 3d 04:05 h"));
}

}  // namespace
}  // namespace switchyard::test
