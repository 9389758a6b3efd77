// What one sees while a run goes on: on a terminal, in a file, in the ranks' log files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"
#include "cli/screen.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

bool is_bar(const std::string& row) { return row.rfind("[#", 0) == 0 || row.rfind("[.", 0) == 0; }

TEST(Console, ATerminalHasABarThatLinesScrollAbove) {
  const Program program;
  program.build_dataset();
  for (int columns : {60, 120}) {
    const Outcome outcome =
        program.on_terminal("rm -rf runs && $SWITCHYARD train small.yaml", columns);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.out;
    const Screen screen(outcome.out);
    int bars = 0;
    for (const std::string& row : screen.overwritten) {
      bars += is_bar(row);
      EXPECT_LT(static_cast<int>(row.size()), columns) << row;
    }
    EXPECT_GE(bars, 2) << outcome.out;  // the first step's, and again below the evaluation
    for (const char* line : {"evaluation at step 3: ", "checkpoint runs/small/checkpoints/step-",
                             "step      6/6  loss ", "results: runs/small ("}) {
      EXPECT_TRUE(screen.has_row(line)) << line << "\n" << outcome.out;
    }
    for (const std::string& row : screen.rows) EXPECT_FALSE(is_bar(row)) << row;
  }
}

TEST(Console, AnErrorTakesTheBarAwayAndColoursAreForThoseWhoWantThem) {
  const Program program;
  program.build_dataset();
  // The checkpoint after step 3 can't be written.
  const std::string prepare = "mkdir -p runs/small; ln -s /proc runs/small/checkpoints";
  ASSERT_EQ(program.shell(prepare).exit_code, 0);
  const Outcome coloured = program.on_terminal("$SWITCHYARD train small.yaml", 100);
  EXPECT_EQ(coloured.exit_code, 4) << coloured.out;
  EXPECT_THAT(coloured.out, HasSubstr("]  1/6  loss "));
  const Screen screen(coloured.out);
  EXPECT_TRUE(screen.has_row("error: cannot make the directory")) << coloured.out;
  for (const std::string& row : screen.rows) EXPECT_FALSE(is_bar(row)) << row;
  EXPECT_THAT(coloured.out, HasSubstr("\x1b[31merror:\x1b[0m"));
  EXPECT_THAT(program.read("runs/small/logs/rank-00000.log"),
              HasSubstr(" error: cannot make the directory"));
  const Outcome plain = program.on_terminal("NO_COLOR=1 $SWITCHYARD train small.yaml", 100);
  EXPECT_THAT(plain.out, HasSubstr("error: "));
  EXPECT_THAT(plain.out, Not(HasSubstr("\x1b[31m")));
}

TEST(Console, EverythingElseHasPlainLines) {
  const Program program;
  program.build_dataset();
  const std::string train = "rm -rf runs && $SWITCHYARD train small.yaml";
  const Outcome piped = program.shell(train);
  const Outcome dumb = program.on_terminal("export TERM=dumb && " + train, 100);
  const Outcome asked = program.on_terminal(train + " --progress lines", 100);
  for (const Outcome* outcome : {&piped, &dumb, &asked}) {
    EXPECT_EQ(outcome->exit_code, 0);
    EXPECT_THAT(outcome->out, HasSubstr("\nstep      4/6  loss "));
    EXPECT_THAT(outcome->out, Not(HasSubstr("\x1b")));
  }
  EXPECT_THAT(piped.out + piped.err, Not(HasSubstr("\r")));
  const Outcome none = program.shell(train + " --progress none");
  EXPECT_THAT(none.out, Not(HasSubstr("step      4/6")));
  EXPECT_THAT(none.out, HasSubstr("evaluation at step 3"));
  EXPECT_THAT(program.shell(train + " --progress bar").out, HasSubstr("]  1/6  loss"));
  const Outcome wrong = program.run("train small.yaml --progress fancy");
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("use auto, bar, lines or none"));
}

TEST(Console, TheLogFileHasEveryLineOfEveryStart) {
  const Program program;
  program.build_dataset();
  ASSERT_EQ(program.on_terminal("$SWITCHYARD train small.yaml --set train.steps=3", 90).exit_code,
            0);
  ASSERT_EQ(program.run("train small.yaml").exit_code, 0);
  const std::string log = program.read("runs/small/logs/rank-00000.log");
  EXPECT_THAT(log, testing::MatchesRegex(
                       "20[0-9-]+ [0-9:.]+[+-][0-9:]+ info: rank 0 of 1 on host [^ ]+, process "
                       "[0-9]+, switchyard .*"));
  for (const char* line :
       {" info: layout 1x1", " info: step      2/3  loss ", " info: evaluation at step 3",
        " info: resuming after step 3", " info: step      6/6  loss "}) {
    EXPECT_THAT(log, HasSubstr(line));
  }
  EXPECT_THAT(log, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace switchyard::test
