// `switchyard verify` as a user runs it: table, exit codes, refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;

TEST(Verify, LayoutsAgreeAndNothingIsWritten) {
  const Program program;
  program.build_dataset();
  const Outcome outcome = program.run(
      "verify small.yaml --layouts 1,2,4x2 --micro-batches 1,2 --steps 2 "
      "--set train.reduction=ordered");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("every bit must be equal"));
  EXPECT_THAT(outcome.out, testing::ContainsRegex("experts( +bit-equal){5}"));
  EXPECT_THAT(outcome.out, HasSubstr("all layouts agree with 1 in 1"));
  EXPECT_FALSE(std::filesystem::exists(program.path("runs")));
}

TEST(Verify, APlantedBugIsADisagreement) {
  const Program program;
  program.build_dataset();
  const std::string verify = "verify small.yaml --layouts 1,2x1,2 --steps 2 --inject ";
  const Outcome outcome = program.run(verify + "grad-scale");
  EXPECT_EQ(outcome.exit_code, 9);
  EXPECT_THAT(outcome.out, HasSubstr("layout 2x1: agrees"));
  EXPECT_THAT(outcome.out, HasSubstr("layout 2 with grad-scale: differs"));
  EXPECT_THAT(outcome.err, HasSubstr("error: layout 2 differs from 1: gradient of "));
  EXPECT_THAT(outcome.err, HasSubstr("at step 1, rank "));

  const Outcome all = program.run(verify + "all");
  EXPECT_EQ(all.exit_code, 0) << all.err;
  EXPECT_THAT(all.out, HasSubstr("grad-scale            2     found by gradient: "));
  EXPECT_THAT(all.out, HasSubstr("lost-micro-batch      can't occur: "));
}

TEST(Verify, WhatCannotBeDoneIsRefusedWithTheReason) {
  const Program program;
  program.build_dataset();
  const auto refused = [&](const std::string& arguments, const std::string& reason) {
    const Outcome outcome = program.run("verify small.yaml " + arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(reason));
  };
  refused("--layouts 1,2 --inject lost-micro-batch", "it takes several micro-batches");
  refused("--layouts 1,2 --inject drop-shard", "several ranks that hold the same experts");
  refused("--layouts 1,2 --inject gradscale", "there is no bug 'gradscale'");
  refused("--layouts 1,4x3", "expert groups of 3 do not divide 4 ranks");
  refused("--layouts 1", "nothing to compare");
  refused("--layouts 1,100", "layout 100 needs 100 ranks");
  refused("--layouts 1,2 --micro-batches 3", "3 micro-batches");
}

}  // namespace
}  // namespace switchyard::test
