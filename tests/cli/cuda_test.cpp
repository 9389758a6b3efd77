// The CUDA backend as users meet it on a machine without a GPU: the program starts without CUDA's
// libraries, `auto` trains on the CPU, and `cuda` is refused with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/program.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Cuda, ProgramNeedsNoneOfItsLibraries) {
  const Program program;
  const Outcome libraries = program.shell("ldd $SWITCHYARD");
  ASSERT_EQ(libraries.exit_code, 0) << libraries.err;
  EXPECT_THAT(libraries.out, HasSubstr("libc.so"));
  for (const char* name : {"libcuda", "libcublas", "libcudnn", "libnccl", "libswitchyard_cuda"}) {
    EXPECT_THAT(libraries.out, Not(HasSubstr(name)));
  }
}

#ifdef SWITCHYARD_HAVE_CUDA

class WithoutGpu : public testing::Test {
 protected:
  void SetUp() override {
    doctor_ = program_.run("doctor");
    ASSERT_EQ(doctor_.exit_code, 0) << doctor_.err;
    if (doctor_.out.find("compute capability") != std::string::npos) {
      GTEST_SKIP() << "a GPU answers here";
    }
  }
  // The usual three lines, with the place of the key and something to do.
  static void expect_refused(const Outcome& outcome, const std::string& what) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("error: device 'cuda' can't compute here: " + what));
    EXPECT_THAT(outcome.err, HasSubstr("--set device=cuda"));
    EXPECT_THAT(outcome.err, HasSubstr("or set device: auto"));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 3) << outcome.err;
  }

  const Program program_;
  Outcome doctor_;
};

TEST_F(WithoutGpu, DoctorOpensThePluginAndSaysWhatItFound) {
  EXPECT_THAT(doctor_.out, HasSubstr("device cuda: "));
  EXPECT_THAT(doctor_.out, HasSubstr("here: no GPU answers: "));
  EXPECT_THAT(doctor_.out, HasSubstr("device auto: cpu\n"));
}

TEST_F(WithoutGpu, CudaIsRefused) {
  program_.build_dataset();
  expect_refused(program_.run("train small.yaml --set device=cuda"), "no GPU answers: ");
}

TEST_F(WithoutGpu, AutoTrainsOnTheCpu) {
  program_.build_dataset();
  const Outcome trained = program_.run("train small.yaml --set device=auto --set train.steps=2");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("device cpu"));
}

TEST_F(WithoutGpu, ProgramAloneTrainsAndNamesTheMissingPlugin) {
  program_.build_dataset();
  EXPECT_EQ(program_.shell("cp $SWITCHYARD alone").exit_code, 0);
  EXPECT_EQ(program_
                .shell("./alone train small.yaml --set device=auto --set train.steps=2 "
                       "--set run.dir=alone_runs")
                .exit_code,
            0);
  expect_refused(program_.shell("./alone train small.yaml --set device=cuda"),
                 "the CUDA plugin is missing; searched: ");
  EXPECT_THAT(program_.shell("./alone doctor").out, HasSubstr("the CUDA plugin is missing"));
}

TEST_F(WithoutGpu, DamagedPluginIsNamed) {
  program_.build_dataset();
  EXPECT_EQ(
      program_.shell("cp $SWITCHYARD alone && echo damaged > libswitchyard_cuda.so").exit_code, 0);
  expect_refused(program_.shell("./alone train small.yaml --set device=cuda"),
                 "the CUDA plugin doesn't load: ");
  EXPECT_EQ(program_
                .shell("./alone train small.yaml --set device=auto --set train.steps=2 "
                       "--set run.dir=alone_runs")
                .exit_code,
            0);
}

#else

TEST(Cuda, IsNamedAsMissingFromTheBuild) {
  const Program program;
  program.build_dataset();
  const Outcome outcome = program.run("train small.yaml --set device=cuda");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err,
              HasSubstr("device 'cuda' is not in this build; built: cpu, reference\n"));
}

#endif

}  // namespace
}  // namespace switchyard::test
