#include "report/html_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>

#include "base/errors.h"
#include "report/jsonl_sink.h"
#include "report/made_up_run.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::HasSubstr;
using testing::Not;

RunLog log_of(int64_t steps, int64_t layers, int64_t experts,
              const std::vector<std::string>& labels) {
  const TemporaryDirectory directory;
  {
    JsonlSink sink(directory.path() / "metrics.jsonl");
    sink.start({.steps = steps, .ranks = 2});
    for (int64_t step = 1; step <= steps; ++step) sink.step(made_up_step(step, layers, experts));
    sink.evaluation(made_up_evaluation(steps, layers, experts, labels));
  }
  return read_run_log(directory.path());
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Whether an XML parser takes the page: every HTML5 page like this one is XML too.
void expect_well_formed(const std::string& html) {
  if (std::system("command -v xmllint > /dev/null") != 0) GTEST_SKIP() << "xmllint is missing";
  const TemporaryDirectory directory;
  const std::string path = (directory.path() / "report.html").string();
  write_text(path, html);
  EXPECT_EQ(std::system(("xmllint --noout --nonet '" + path + "'").c_str()), 0);
}

TEST(HtmlReport, ShowsEverySection) {
  const std::string html = html_report(log_of(60, 2, 4, {"north", "south"}));
  for (const char* title :
       {"<h3>Loss</h3>", "<h3>Validation loss by label</h3>", "<h3>Load-balance loss</h3>",
        "<h3>Router z-loss</h3>", "<h3>Learning rate</h3>", "<h3>Gradient norm</h3>",
        "<h3>Speed</h3>", "<h3>Load of every expert</h3>", "<h3>Router entropy</h3>",
        "<h3>Share dropped</h3>", "<h3>Load over time: encoder 3</h3>", "<h3>Favourite labels</h3>",
        "<h3>encoder 1: what an expert prefers</h3>"}) {
    EXPECT_THAT(html, HasSubstr(title));
  }
  EXPECT_THAT(html, HasSubstr("Finished</span>: 60 steps in 16 s of computing on 2 ranks."));
  EXPECT_THAT(html, HasSubstr("0.500 below</span> the unigram entropy of 5.000"));
  EXPECT_THAT(html, HasSubstr("FLOP"));
}

TEST(HtmlReport, EveryPictureIsDescribedAndNothingIsFetched) {
  const std::string html = html_report(log_of(60, 2, 4, {"north", "south"}));
  EXPECT_GE(count(html, "<svg viewBox=\"0 0 460"), 14u);
  EXPECT_EQ(count(html, "<svg "),
            count(html, "role=\"img\" aria-label=\"") + count(html, "aria-hidden=\"true\""));
  EXPECT_THAT(html, Not(testing::ContainsRegex("<script|<link|<img|<iframe|@import|url[(]")));
  const std::regex reference("(src|href)=\"([^\"]*)\"");
  for (std::sregex_iterator it(html.begin(), html.end(), reference), end; it != end; ++it) {
    EXPECT_EQ((*it)[2].str().front(), '#') << it->str();
  }
  EXPECT_EQ(count(html, "://"), 1u);  // the name space of XHTML
}

TEST(HtmlReport, AllTextIsEscaped) {
  const std::string evil = "<script>alert(\"1\" & '2')</script>\x01]]>";
  RunLog log = log_of(20, 1, 4, {evil, "b\"b"});
  log.name = log.config_text = evil;
  log.layers[0].name = log.evaluations[0].layers[0].name = evil;
  const std::string html = html_report(log);
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("alert(\"")));
  EXPECT_THAT(html,
              HasSubstr("<h1>&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;"));
  EXPECT_THAT(html, HasSubstr("b&quot;b"));
  EXPECT_EQ(count(html, "]]>"), 0u);
  expect_well_formed(html);
}

TEST(HtmlReport, IsWellFormed) {
  expect_well_formed(html_report(log_of(60, 2, 4, {"north", "south"})));
}

TEST(HtmlReport, OfADenseModelHasNoExperts) {
  const std::string html = html_report(log_of(5, 0, 0, {"north", "south"}));
  EXPECT_THAT(html, HasSubstr("<h3>Loss</h3>"));
  EXPECT_THAT(html, Not(HasSubstr("id=\"experts\"")));
  EXPECT_THAT(html, Not(HasSubstr("id=\"specialisation\"")));
  expect_well_formed(html);
}

TEST(HtmlReport, OfOneStepOrWithoutEvaluationIsAReport) {
  RunLog log = log_of(1, 1, 2, {"a", "b"});
  log.evaluations.clear();
  const std::string html = html_report(log);
  EXPECT_THAT(html, HasSubstr("No evaluation yet."));
  expect_well_formed(html);
}

TEST(HtmlReport, ShowsEveryLayerOfAPyramid) {
  const TemporaryDirectory directory;
  JsonlSink sink(directory.path() / "metrics.jsonl");
  sink.start({.steps = 1});
  StepRecord record = made_up_step(1, 2, 4);
  record.layers[0].load.resize(2);
  sink.step(record);
  const RunLog log = read_run_log(directory.path());
  EXPECT_EQ(log.experts(), 4);
  const std::string html = html_report(log);
  const std::string map = html.substr(html.find("Load of every expert"));
  const std::string figure = map.substr(0, map.find("</figure>"));
  EXPECT_THAT(figure, HasSubstr("encoder 1"));
  EXPECT_THAT(figure, HasSubstr("encoder 3"));
}

TEST(HtmlReport, SaysHowARunStands) {
  RunLog log = log_of(30, 1, 4, {"a", "b"});
  log.starts.push_back({.step = 12, .steps = 40, .ranks = 1});
  log.skipped = {7, 9};
  log.layers[0].recent_load = {100, 100, 0, 100};
  log.unreadable_lines = 1;
  const std::string html = html_report(log);
  EXPECT_THAT(html, HasSubstr("Stopped</span> at step 30 of 40"));
  EXPECT_THAT(html, HasSubstr("on 1 rank, resumed 1 time."));
  EXPECT_THAT(html, HasSubstr("resumed after step 12"));
  EXPECT_THAT(html, HasSubstr("2 updates left out"));
  EXPECT_THAT(html, HasSubstr("2 of encoder.block.1.moe"));
  EXPECT_THAT(html, HasSubstr("1 line of metrics.jsonl"));
}

TEST(HtmlReport, ShowsFlopsWhereTheyAreRecorded) {
  RunLog log = log_of(30, 1, 4, {"a", "b"});
  log.flops.assign(30, 5e8);
  const std::string html = html_report(log);
  EXPECT_THAT(html, HasSubstr("GFLOP/s"));
  EXPECT_THAT(html, HasSubstr("<dd>2 G</dd>"));
}

// Longer, deeper and wider than any picture can show in full.
TEST(HtmlReport, NeverExceedsItsSize) {
  std::vector<std::string> labels;
  for (int i = 0; i < 60; ++i) labels.push_back("label " + std::to_string(i));
  RunLog log = log_of(40, 40, 96, labels);
  const auto repeat = [](auto& list, size_t times) {
    const auto once = list;
    for (size_t i = 1; i < times; ++i) list.insert(list.end(), once.begin(), once.end());
  };
  constexpr size_t kTimes = 3000;
  for (std::vector<double>* list :
       {&log.loss, &log.load_balance, &log.router_z, &log.learning_rate, &log.gradient_norm,
        &log.seconds, &log.tokens, &log.flops, &log.dropped_share}) {
    repeat(*list, kTimes);
    for (size_t i = 0; i < list->size(); ++i) (*list)[i] *= 1 + 0.5 * std::sin(4.1 * double(i));
  }
  log.flops = log.tokens;
  for (LayerLog& layer : log.layers) {
    for (auto* list : {&layer.dropped_share, &layer.router_entropy, &layer.dead_experts}) {
      repeat(*list, kTimes);
    }
  }
  log.steps.resize(40 * kTimes);
  for (size_t i = 0; i < log.steps.size(); ++i) log.steps[i] = static_cast<int64_t>(i) + 1;
  for (LayerLog& layer : log.layers) {
    layer.load.assign(static_cast<size_t>(log.spans()) * 96, 1.0);
    for (size_t i = 0; i < layer.load.size(); ++i) layer.load[i] = double(i * i % 101);
  }
  while (log.config_text.size() < 1'000'000) log.config_text += "&&&&&&&&&\n";
  const std::string html = html_report(log);
  EXPECT_LE(html.size(), 1'500'000u);
  EXPECT_THAT(html, HasSubstr("of 40 layers"));
  expect_well_formed(html);
}

TEST(HtmlReport, IsWrittenWholeOrNotAtAll) {
  const TemporaryDirectory directory;
  EXPECT_THROW(write_html_report(directory.path()), InputError);
  JsonlSink sink(directory.path() / "metrics.jsonl");
  sink.start({});
  sink.step(made_up_step(1, 1, 2));
  EXPECT_EQ(write_html_report(directory.path()), directory.path() / "report.html");
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "report.html"));
  std::filesystem::remove(directory.path() / "report.html");
  std::filesystem::create_directories(directory.path() / "report.html/in the way");
  EXPECT_THROW(write_html_report(directory.path()), SpaceError);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "report.html.partial"));
}

}  // namespace
}  // namespace switchyard::test
