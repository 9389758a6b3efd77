#include "data/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace switchyard {
namespace {

using testing::HasSubstr;

const Vocabulary kIds{.size = 100, .pad = 0, .eos = 1};

std::vector<int32_t> ids_of(const std::string& part) {
  std::vector<int32_t> ids(part.size() / sizeof(int32_t));
  std::memcpy(ids.data(), part.data(), part.size());
  return ids;
}

TEST(JsonLines, TextPairsAndIds) {
  EXPECT_EQ(parse_line(R"({"text": "gr\u00fc\u00dfe\nzwei", "more": [1]})", {}).parts[0],
            "grüße\nzwei");
  const LineDocument pair =
      parse_line(R"({"targets": "b", "inputs": "a", "lang": "de"})",
                 {.examples = ExampleKind::kPairs, .keys = {.label = "lang"}});
  EXPECT_EQ(pair.wrong, "");
  EXPECT_EQ(pair.parts[0], "a");
  EXPECT_EQ(pair.parts[1], "b");
  EXPECT_EQ(pair.label, "de");
  const LineDocument ids = parse_line(R"({"x": [5, 99, 1]})", {.keys = {.text = "x"}, .ids = kIds});
  EXPECT_EQ(ids.wrong, "");
  EXPECT_EQ(ids_of(ids.parts[0]), (std::vector<int32_t>{5, 99, 1}));
  const LineLayout id_pairs{.examples = ExampleKind::kPairs, .ids = kIds};
  EXPECT_EQ(ids_of(parse_line(R"({"inputs": [2, 3], "targets": [4]})", id_pairs).parts[1]),
            std::vector<int32_t>{4});
  // Nothing to learn from: no mistake.
  EXPECT_EQ(parse_line(R"({"text": " \n"})", {}).parts[0], "");
  EXPECT_EQ(parse_line(R"({"text": " \n"})", {}).wrong, "");
  EXPECT_EQ(parse_line(R"({"text": "a\u0000b"})", {}).parts[0], "a b");
}

TEST(JsonLines, LabelsMayBeNumbers) {
  const LineLayout layout{.keys = {.label = "kind"}};
  EXPECT_EQ(parse_line(R"({"text": "a", "kind": 3})", layout).label, "3");
  EXPECT_EQ(parse_line(R"({"text": "a", "kind": true})", layout).label, "true");
  EXPECT_THAT(parse_line(R"({"text": "a", "kind": ""})", layout).wrong, HasSubstr("kind"));
  EXPECT_THAT(parse_line(R"({"text": "a", "kind": [1]})", layout).wrong, HasSubstr("kind"));
  EXPECT_THAT(parse_line(R"({"text": "a"})", layout).wrong, HasSubstr("lacks \"kind\""));
}

struct Wrong {
  const char* name;
  std::string line;
  LineLayout layout;
  const char *wrong, *advice;
};
void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.line; }

class WrongLine : public testing::TestWithParam<Wrong> {};

TEST_P(WrongLine, IsToldWhatIsWrong) {
  const LineDocument document = parse_line(GetParam().line, GetParam().layout);
  EXPECT_EQ(document.wrong, GetParam().wrong);
  EXPECT_THAT(document.advice, HasSubstr(GetParam().advice));
}

const LineLayout kPairs{.examples = ExampleKind::kPairs};
const LineLayout kIdText{.keys = {.text = "ids"}, .ids = kIds};
INSTANTIATE_TEST_SUITE_P(
    Table, WrongLine,
    testing::Values(
        Wrong{"cut", R"({"text": "a)", {}, "the line is no JSON", "one JSON object"},
        Wrong{"two", R"({"text": "a"} {"text": "b"})", {}, "the line is no JSON", "each line"},
        Wrong{"latin1",
              "{\"text\": \"gr\xFC\xDF"
              "e\"}",
              {},
              "the line is no JSON",
              "UTF-8"},
        Wrong{"array", R"(["a"])", {}, "the line is no JSON object", R"({"text": "..."})"},
        Wrong{"missing",
              R"({"content": "a", "id": 1})",
              {},
              "the line lacks \"text\"",
              "it has: content, id"},
        Wrong{"number", R"({"text": 5})", {}, "\"text\" is no text", "such as"},
        Wrong{"ids_as_text", R"({"text": [5]})", {}, "\"text\" is no text", "format: ids"},
        Wrong{"no_targets", R"({"inputs": "a"})", kPairs, "the line lacks \"targets\"", "inputs"},
        Wrong{"text_as_ids", R"({"ids": "some text"})", kIdText,
              "\"ids\" is text, but the dataset has no tokenizer", "format: jsonl"},
        Wrong{"too_large", R"({"ids": [5, 100]})", kIdText, "\"ids\" holds 100", "0 to 99"},
        Wrong{"negative", R"({"ids": [-1]})", kIdText, "\"ids\" holds -1", "0 to 99"},
        Wrong{"fraction", R"({"ids": [1.5]})", kIdText, "\"ids\" holds 1.5", "whole numbers"},
        Wrong{"nested", R"({"ids": [[1]]})", kIdText, "\"ids\" holds array", "whole numbers"},
        Wrong{"padding", R"({"ids": [5, 0]})", kIdText, "\"ids\" holds 0, which is padding",
              "leave padding out"}),
    [](const auto& tested) { return tested.param.name; });

TEST(LineReader, CountsLinesAndPassesOverBlankOnes) {
  const std::string text =
      "\xEF\xBB\xBF"
      "a\r\n\n  \nb";
  LineReader reader(text);
  auto line = reader.next();
  ASSERT_TRUE(line);
  EXPECT_EQ(line->number, 1);
  EXPECT_EQ(line->text, "a\r");
  line = reader.next();
  ASSERT_TRUE(line);
  EXPECT_EQ(line->number, 4);
  EXPECT_EQ(line->text, "b");
  EXPECT_FALSE(reader.next());
}

}  // namespace
}  // namespace switchyard
