// Lines of token ids: what they give, and what is refused.
#include "data/token_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/errors.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

GivenTokens parse(std::string_view line, TokenLineKeys keys) {
  return parse_token_line(line, keys, 100, "ids.jsonl:7");
}

TEST(TokenLines, HoldWhatAModelReads) {
  const GivenTokens decoder =
      parse(R"({"position_ids": [0, 16777215], "attention_mask": [0, 1], "input_ids": [99, 0]})",
            TokenLineKeys::kDecoder);
  EXPECT_THAT(decoder.input_ids, ElementsAre(99, 0));
  EXPECT_THAT(decoder.attention_mask, ElementsAre(0, 1));
  EXPECT_THAT(decoder.position_ids, ElementsAre(0, 16777215));
  const GivenTokens both =
      parse(R"({"input_ids": [1], "decoder_input_ids": [2, 3], "decoder_attention_mask": [1, 0]})",
            TokenLineKeys::kEncoderDecoder);
  EXPECT_THAT(both.input_ids, ElementsAre(1));
  EXPECT_THAT(both.attention_mask, IsEmpty());
  EXPECT_THAT(both.decoder_input_ids, ElementsAre(2, 3));
  EXPECT_THAT(both.decoder_attention_mask, ElementsAre(1, 0));
  EXPECT_THAT(parse(R"({"input_ids": [5]})", TokenLineKeys::kPrompt).input_ids, ElementsAre(5));
}

TEST(TokenLines, OfAFileAreCounted) {
  const TemporaryDirectory directory;
  const auto read = [&](const std::string& text) {
    const std::filesystem::path path = directory.path() / "ids.jsonl";
    std::ofstream(path, std::ios::binary) << text;
    return read_token_lines(path, TokenLineKeys::kDecoder, 100);
  };
  const auto two = read("{\"input_ids\": [1]}\n\n{\"input_ids\": [2, 3]}\r\n");
  ASSERT_EQ(two.size(), 2u);
  EXPECT_THAT(two[1].input_ids, ElementsAre(2, 3));
  const auto refusal = [&](const std::string& text) {
    try {
      read(text);
    } catch (const InputError& error) {
      return error.where();
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal("{\"input_ids\": [1]}\n\n{\"input_ids\": [2]"), HasSubstr("ids.jsonl:3"));
  EXPECT_THAT(refusal("\n \n"), HasSubstr("ids.jsonl"));
  EXPECT_THAT(refusal(""), HasSubstr("ids.jsonl"));
}

struct Wrong {
  std::string name, line;
  TokenLineKeys keys;
  std::string what, advice;
};
void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.name; }

class WrongTokenLine : public testing::TestWithParam<Wrong> {};

TEST_P(WrongTokenLine, IsRefused) {
  const Wrong& wrong = GetParam();
  try {
    parse(wrong.line, wrong.keys);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.summary(), HasSubstr(wrong.what));
    EXPECT_THAT(error.advice(), HasSubstr(wrong.advice));
    EXPECT_EQ(error.where(), "ids.jsonl:7");
    EXPECT_EQ(error.exit_code(), ExitCode::kBadData);
    EXPECT_LT(std::string(error.what()).size(), 400u);
  }
}

constexpr TokenLineKeys kDecoder = TokenLineKeys::kDecoder;
constexpr TokenLineKeys kBoth = TokenLineKeys::kEncoderDecoder;

INSTANTIATE_TEST_SUITE_P(
    All, WrongTokenLine,
    testing::Values(
        Wrong{"no_json", "{\"input_ids\": [1}", kDecoder, "no JSON", "{\"input_ids\": [17, 4]}"},
        Wrong{"not_utf8", "{\"input_ids\": [1], \"\xff\": 1}", kDecoder, "no JSON", ""},
        Wrong{"trailing", R"({"input_ids": [1]} {})", kDecoder, "no JSON", ""},
        Wrong{"no_object", "[1, 2]", kDecoder, "no JSON object", ""},
        Wrong{"nested_deeply", std::string(200'000, '['), kDecoder, "no JSON", ""},
        Wrong{"no_ids", R"({"attention_mask": [1]})", kDecoder, "lacks \"input_ids\"", ""},
        Wrong{"no_decoder_ids", R"({"input_ids": [1]})", kBoth, "lacks \"decoder_input_ids\"",
              "\"decoder_input_ids\": [17, 4]"},
        Wrong{"unknown", R"({"input_ids": [1], "attention_masks": [1]})", kDecoder,
              "\"attention_masks\" is no key", "input_ids, attention_mask, position_ids"},
        Wrong{"of_encoder_decoders", R"({"input_ids": [1], "decoder_input_ids": [1]})", kDecoder,
              "\"decoder_input_ids\" is no key", ""},
        Wrong{"of_decoders", R"({"input_ids": [1], "decoder_input_ids": [1], "position_ids": [0]})",
              kBoth, "\"position_ids\" is no key", ""},
        Wrong{"mask_of_a_prompt", R"({"input_ids": [1], "attention_mask": [1]})",
              TokenLineKeys::kPrompt, "\"attention_mask\" is no key", "input_ids"},
        Wrong{"control_characters", R"({"input_ids": [1], "a\u0000\nb": 1})", kDecoder, "a??b", ""},
        Wrong{"twice", R"({"input_ids": [1], "input_ids": [2]})", kDecoder, "stands there twice",
              ""},
        Wrong{"text", R"({"input_ids": "some text"})", kDecoder, "\"input_ids\" is no list",
              "token ids instead of text"},
        Wrong{"null", R"({"input_ids": null})", kDecoder, "\"input_ids\" is no list", ""},
        Wrong{"empty", R"({"input_ids": []})", kDecoder, "\"input_ids\" is empty", ""},
        Wrong{"empty_decoder", R"({"input_ids": [1], "decoder_input_ids": []})", kBoth,
              "\"decoder_input_ids\" is empty", ""},
        Wrong{"too_large", R"({"input_ids": [1, 100]})", kDecoder, "\"input_ids\" holds 100",
              "from 0 to 99"},
        Wrong{"beyond_64_bits", R"({"input_ids": [18446744073709551617]})", kDecoder,
              "\"input_ids\" holds", ""},
        Wrong{"negative", R"({"input_ids": [-100]})", kDecoder, "\"input_ids\" holds -100",
              "from 0 to 99"},
        Wrong{"fraction", R"({"input_ids": [1.0]})", kDecoder, "\"input_ids\" holds 1.0", "whole"},
        Wrong{"nested", R"({"input_ids": [[1]]})", kDecoder, "\"input_ids\" holds array", ""},
        Wrong{"text_inside", R"({"input_ids": ["1"]})", kDecoder, "\"input_ids\" holds string", ""},
        Wrong{"boolean_mask", R"({"input_ids": [1], "attention_mask": [true]})", kDecoder,
              "\"attention_mask\" holds boolean", "1 for a token, 0 for padding"},
        Wrong{"mask_of_2", R"({"input_ids": [1], "attention_mask": [2]})", kDecoder,
              "\"attention_mask\" holds 2", "from 0 to 1"},
        Wrong{"short_mask", R"({"input_ids": [1, 2], "attention_mask": [1]})", kDecoder,
              "\"attention_mask\" has 1 numbers for 2 ids", ""},
        Wrong{"empty_mask", R"({"input_ids": [1, 2], "attention_mask": []})", kDecoder,
              "\"attention_mask\" has 0 numbers for 2 ids", ""},
        Wrong{"long_positions", R"({"input_ids": [1], "position_ids": [0, 1]})", kDecoder,
              "\"position_ids\" has 2 numbers for 1 ids", ""},
        Wrong{"far_position", R"({"input_ids": [1], "position_ids": [16777216]})", kDecoder,
              "\"position_ids\" holds 16777216", ""},
        Wrong{
            "mask_of_the_other_ids",
            R"({"input_ids": [1, 2], "decoder_input_ids": [1], "decoder_attention_mask": [1, 1]})",
            kBoth, "\"decoder_attention_mask\" has 2 numbers for 1 ids", ""}),
    [](const auto& all) { return all.param.name; });

TEST(TokenLines, OfTooManyIdsAreRefused) {
  std::string line = "{\"input_ids\": [1";
  for (int64_t i = 0; i < kMaxGivenIds; ++i) line += ",1";
  EXPECT_THROW(parse(line + "]}", TokenLineKeys::kDecoder), InputError);
}

}  // namespace
}  // namespace switchyard::test
