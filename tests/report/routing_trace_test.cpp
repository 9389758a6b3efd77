#include "report/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/errors.h"
#include "report/html_report.h"
#include "report/jsonl_sink.h"
#include "report/made_up_run.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Tokens 1, 2 and 5 of a vocabulary of 6, two experts: 1 goes to expert 0 alone, 5 to both evenly.
EvaluationRecord traced() {
  EvaluationRecord record = made_up_evaluation(40, 1, 2, {"de", "fr"});
  LayerRecord& layer = record.layers.front();
  layer.load = {9, 7};
  layer.load_by_label = {{6, 1}, {3, 6}};
  layer.load_by_token = {0, 0, 6, 0, 1, 5, 0, 0, 0, 0, 2, 2};
  return record;
}

RoutingTrace trace_with_pieces() {
  return routing_trace_of(traced(), [](int32_t id) { return "p" + std::to_string(id); });
}

TEST(RoutingTrace, ComesBackFromItsFile) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / kRoutingTraceFile;
  write_routing_trace(path, routing_trace_of(made_up_evaluation(1, 2, 3, {"x"}), {}));
  const RoutingTrace written = trace_with_pieces();
  write_routing_trace(path, written);
  const RoutingTrace read = read_routing_trace(path);
  EXPECT_EQ(read.step, 40);
  EXPECT_EQ(read.labels, (std::vector<std::string>{"de", "fr"}));
  EXPECT_EQ(read.pieces, (std::map<int32_t, std::string>{{1, "p1"}, {2, "p2"}, {5, "p5"}}));
  ASSERT_EQ(read.layers.size(), 1u);
  EXPECT_EQ(read.layers[0].experts, 2);
  EXPECT_EQ(read.layers[0].load_by_label, written.layers[0].load_by_label);
  ASSERT_EQ(read.layers[0].cells.size(), 5u);
  EXPECT_EQ(read.layers[0].cells[1].token, 2);
  EXPECT_EQ(read.layers[0].cells[1].expert, 0);
  EXPECT_EQ(read.layers[0].cells[2].count, 5);
}

TEST(RoutingTrace, TellingTokensAreThoseTakenMoreOftenThanByAll) {
  const RoutingTrace trace = trace_with_pieces();
  const auto first = trace.telling_tokens(trace.layers[0], 0, 8);
  ASSERT_EQ(first.size(), 1u);  // 2 goes elsewhere, 5 is taken 2 of 9 times, of all 4 of 16
  EXPECT_EQ(first[0].token, 1);
  EXPECT_EQ(first[0].count, 6);
  EXPECT_NEAR(first[0].preference, (6.0 / 9) / (6.0 / 16), 1e-12);
  const auto second = trace.telling_tokens(trace.layers[0], 1, 8);
  ASSERT_EQ(second.size(), 2u);
  EXPECT_EQ(second[0].token, 2);
  EXPECT_EQ(second[1].token, 5);
  EXPECT_EQ(trace.telling_tokens(trace.layers[0], 1, 1).size(), 1u);
}

TEST(RoutingTrace, TheTableHasALineForEachExpert) {
  const std::string table = routing_table(trace_with_pieces(), "", 1);
  EXPECT_THAT(table, HasSubstr("after step 40"));
  EXPECT_THAT(table, HasSubstr("encoder.block.1.moe: 16 choices\n"));
  EXPECT_THAT(table, HasSubstr("56.2 %  de x1.5"));
  EXPECT_THAT(table, HasSubstr("p1 x1.8\n"));
  EXPECT_THAT(table, Not(HasSubstr("p5")));
  EXPECT_THAT(routing_table(routing_trace_of(traced(), {}), "encoder.block.1.moe", 8),
              HasSubstr("2 x1.9, 5 x1.1\n"));
  EXPECT_THROW(routing_table(trace_with_pieces(), "encoder.block.3.moe", 1), ConfigError);
}

TEST(RoutingTrace, StandsInTheReport) {
  const TemporaryDirectory directory;
  JsonlSink sink(directory.path() / "metrics.jsonl");
  sink.start({.steps = 1});
  sink.step(made_up_step(1, 1, 2));
  EXPECT_THAT(html_report(read_run_log(directory.path())), Not(HasSubstr(": tokens</h3>")));
  write_routing_trace(directory.path() / kRoutingTraceFile, trace_with_pieces());
  const std::string page = html_report(read_run_log(directory.path()));
  EXPECT_THAT(page, HasSubstr(": tokens</h3>"));
  EXPECT_THAT(page, HasSubstr("p1 <small>1.8x</small>"));
}

TEST(RoutingTrace, AnotherFileIsRefused) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "other.safetensors";
  std::ofstream(path) << std::string("\x02\0\0\0\0\0\0\0{}", 10);
  EXPECT_THROW(read_routing_trace(path), CheckpointError);
}

}  // namespace
}  // namespace switchyard::test
