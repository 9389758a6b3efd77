// Spans against a clock that moves when it is told to.
#include "base/tracer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"

namespace switchyard::test {
namespace {

using testing::ElementsAre;

int64_t hand_ns = 0;
int64_t hand() { return hand_ns; }

class Tracers : public testing::Test {
 protected:
  static void pass(int64_t nanoseconds) { hand_ns += nanoseconds; }
  static int64_t nanoseconds(const Tracer& tracer, Phase phase) {
    return static_cast<int64_t>(tracer.seconds(phase) * 1e9 + 0.5);
  }
};

TEST_F(Tracers, GiveTimeToTheInnermostSpan) {
  Tracer tracer(16, hand);
  pass(1000);  // outside of all spans
  {
    const Span step(&tracer, Phase::kOther, "step", 7);
    pass(3);
    Span part(&tracer, Phase::kForward);
    pass(10);
    {
      const Span experts(&tracer, Phase::kExperts);
      pass(50);
    }
    pass(20);
    part.then(Phase::kBackward);
    pass(100);
    part.end();
    pass(4);
  }
  pass(1000);
  EXPECT_EQ(nanoseconds(tracer, Phase::kForward), 30);
  EXPECT_EQ(nanoseconds(tracer, Phase::kExperts), 50);
  EXPECT_EQ(nanoseconds(tracer, Phase::kBackward), 100);
  EXPECT_EQ(nanoseconds(tracer, Phase::kOther), 7);
  EXPECT_EQ(nanoseconds(tracer, Phase::kData), 0);
  EXPECT_NEAR(tracer.seconds(), 187e-9, 1e-15);
  EXPECT_EQ(tracer.outermost(), 1);
}

TEST_F(Tracers, KeepSpansInTheOrderOfTheirBeginnings) {
  Tracer tracer(16, hand);
  pass(5);
  {
    const Span step(&tracer, Phase::kOther, "step", 7);
    const Span forward(&tracer, Phase::kForward);
    pass(1);
    Span part(&tracer, "block", 2);
    pass(2);
    part.then("head");
    pass(3);
  }
  const std::vector<TracedSpan>& spans = tracer.spans();
  ASSERT_EQ(spans.size(), 4u);
  const auto edges = [](const TracedSpan& span) {
    return std::vector<int64_t>{span.begin_ns, span.end_ns, span.number};
  };
  EXPECT_THAT(edges(spans[0]), ElementsAre(5, 11, 7));
  EXPECT_STREQ(spans[0].name, "step");
  EXPECT_THAT(edges(spans[1]), ElementsAre(5, 11, TracedSpan::kNoNumber));
  EXPECT_EQ(spans[1].name, nullptr);
  EXPECT_THAT(edges(spans[2]), ElementsAre(6, 8, 2));
  EXPECT_STREQ(spans[2].name, "block");
  EXPECT_EQ(spans[2].phase, Phase::kForward);  // of the span around it
  EXPECT_THAT(edges(spans[3]), ElementsAre(8, 11, TracedSpan::kNoNumber));
  EXPECT_STREQ(spans[3].name, "head");
}

TEST_F(Tracers, CountWhatFindsNoRoomAndLoseNoTime) {
  Tracer tracer(3, hand);
  for (int step = 0; step < 2; ++step) {
    const Span whole(&tracer, Phase::kOther, "step", step);
    for (const Phase phase : {Phase::kForward, Phase::kBackward}) {
      const Span span(&tracer, phase);
      pass(5);
    }
  }
  EXPECT_EQ(tracer.spans().size(), 3u);
  EXPECT_EQ(tracer.left_out(), 3);
  EXPECT_EQ(nanoseconds(tracer, Phase::kForward), 10);
  EXPECT_EQ(nanoseconds(tracer, Phase::kBackward), 10);
  EXPECT_EQ(tracer.outermost(), 2);
  for (const TracedSpan& span : tracer.spans()) EXPECT_NE(span.end_ns, TracedSpan::kOpen);
}

TEST_F(Tracers, StartAgainFromNothing) {
  Tracer tracer(2, hand);
  for (int i = 0; i < 5; ++i) {
    const Span span(&tracer, Phase::kData);
    pass(5);
  }
  pass(100);
  tracer.restart();
  EXPECT_EQ(tracer.seconds(), 0);
  EXPECT_EQ(tracer.left_out(), 0);
  EXPECT_EQ(tracer.outermost(), 0);
  pass(2);
  { const Span span(&tracer, Phase::kData); }
  ASSERT_EQ(tracer.spans().size(), 1u);
  EXPECT_EQ(tracer.spans()[0].begin_ns, 2);
  const Span open(&tracer, Phase::kData);
  EXPECT_THROW(tracer.restart(), Error);
}

TEST_F(Tracers, EndASpanThatAnErrorLeaves) {
  Tracer tracer(4, hand);
  try {
    const Span outer(&tracer, Phase::kForward);
    Span inner(&tracer, Phase::kRouting);
    inner.end();  // not a second time by the scope
    throw Error(ExitCode::kDefect, "x");
  } catch (const Error&) {
    EXPECT_EQ(tracer.outermost(), 1);
  }
  EXPECT_EQ(tracer.phase(), Phase::kOther);
}

TEST_F(Tracers, NoTracerNoSpans) {
  Span span(nullptr, Phase::kForward);
  Span part(nullptr, "head");
  part.then("block");
  span.then(Phase::kBackward);
  span.end();
}

TEST_F(Tracers, EveryPhaseHasANameOfItsOwn) {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < kPhases; ++i) {
    const std::string_view name = name_of(static_cast<Phase>(i));
    EXPECT_FALSE(name.empty());
    EXPECT_THAT(names, testing::Not(testing::Contains(name)));
    names.push_back(name);
  }
  EXPECT_EQ(name_of(Phase::kOther), "other");
}

}  // namespace
}  // namespace switchyard::test
