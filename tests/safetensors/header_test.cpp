#include "safetensors/header.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/errors.h"
#include "safetensors/safetensors.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

std::string little_endian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// A file with this header text and so many zero bytes of data.
std::string file_with(const std::string& json, size_t data_bytes = 0) {
  return little_endian(json.size()) + json + std::string(data_bytes, '\0');
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string ten_aliases() {
  std::string json = "{";
  for (int i = 0; i < 10; ++i) {
    json += (i ? "," : "") + ("\"weight_" + std::to_string(i) + "\":") +
            entry("F32", "[2,2]", "[0,16]");
  }
  return json + "}";
}

struct Case {
  std::string name, bytes, expected;  // a part of the message; empty: accepted
};

void PrintTo(const Case& a_case, std::ostream* out) { *out << a_case.name; }

class Header : public testing::TestWithParam<Case> {
 protected:
  TemporaryDirectory directory_;
};

TEST_P(Header, IsAcceptedOrRefused) {
  const auto path = directory_.path() / "a.safetensors";
  std::ofstream(path, std::ios::binary) << GetParam().bytes;
  if (GetParam().expected.empty()) {
    EXPECT_NO_THROW(SafetensorsFile::open(path));
    return;
  }
  try {
    SafetensorsFile::open(path);
    FAIL() << "accepted";
  } catch (const CheckpointError& error) {
    EXPECT_NE(error.summary().find(GetParam().expected), std::string::npos) << error.what();
    EXPECT_EQ(error.where(), path.string());
  }
}

// The official suite's cases, numbered as in tensor.rs order of our notes.
const Case kOfficial[] = {
    {"empty", "", "ends before its header"},
    {"seven_bytes", "1234567", "ends before its header"},
    {"length_huge", std::string("\x3c\0\0\0\0\xff\xff\xff", 8), "at most 100000000"},
    {"length_above_limit", little_endian(100'000'001) + std::string(10, ' '), "at most 100000000"},
    {"length_beyond_file", little_endian(1000) + "{}", "cut short"},
    {"not_utf8", little_endian(1) + "\xff", "no valid JSON"},
    {"not_utf8_in_string", file_with("{\"\xff\":" + entry("F32", "[0]", "[0,0]") + "}"),
     "no valid JSON"},
    {"not_json", file_with("{"), "no valid JSON"},
    {"ten_aliases", file_with(ten_aliases(), 16), "begins at 0, the one before ends at 16"},
    {"trailing_bytes", file_with("{\"a\":" + entry("I32", "[2,2]", "[0,16]") + "}", 20),
     "4 bytes follow"},
    {"truncated", file_with("{\"a\":" + entry("I32", "[2,2]", "[0,16]") + "}", 14),
     "\"a\": ends at byte 16 of the data, the file holds 14"},
    {"offsets_against_shape", file_with("{\"a\":" + entry("I32", "[2,2]", "[0,4]") + "}", 4),
     "\"a\": 16 bytes by its shape, 4 by its offsets"},
    {"product_overflows",
     file_with("{\"a\":" + entry("I32", "[2,18446744073709551614]", "[0,16]") + "}", 16),
     "exceeds 64 bits"},
    {"bytes_overflow",
     file_with("{\"a\":" + entry("I32", "[2,9223372036854775807]", "[0,16]") + "}", 16),
     "exceeds 64 bits"},
    {"f4_odd", file_with("{\"a\":" + entry("F4", "[1,3]", "[0,2]") + "}", 2), "whole number"},
    {"f4_wrong_size", file_with("{\"a\":" + entry("F4", "[1,2]", "[0,2]") + "}", 2),
     "1 bytes by its shape"},
    {"scalar", file_with("{\"a\":" + entry("I32", "[]", "[0,4]") + "}", 4), ""},
    {"no_elements", file_with("{\"a\":" + entry("I32", "[2,0]", "[0,0]") + "}"), ""},
    {"white_space_after", file_with("{} \n\t\r "), ""},
    {"white_space_before", file_with(" \n{}"), ""},
    {"no_tensors", file_with("{}"), ""},
    {"metadata_only", file_with(R"({"__metadata__":{"format":"pt","a":""}})"), ""},
    {"f4_even", file_with("{\"a\":" + entry("F4", "[1,2]", "[0,1]") + "}", 1), ""},
};

const std::string kGood = entry("F32", "[1]", "[0,4]");

const Case kOurs[] = {
    {"hole", file_with("{\"a\":" + kGood + ",\"b\":" + entry("F32", "[1]", "[8,12]") + "}", 12),
     "\"b\": begins at 8, the one before ends at 4"},
    {"overlap", file_with("{\"a\":" + kGood + ",\"b\":" + entry("F32", "[1]", "[2,6]") + "}", 6),
     "\"b\": begins at 2"},
    {"begins_late", file_with("{\"a\":" + entry("F32", "[1]", "[4,8]") + "}", 8), "begins at 4"},
    {"ends_before_begin", file_with("{\"a\":" + entry("F32", "[1]", "[4,0]") + "}", 4),
     "before it begins"},
    {"negative_shape", file_with("{\"a\":" + entry("F32", "[-1]", "[0,4]") + "}", 4),
     "a negative number in \"shape\""},
    {"float_shape", file_with("{\"a\":" + entry("F32", "[1.0]", "[0,4]") + "}", 4),
     "no unsigned 64-bit integer"},
    {"huge_shape", file_with("{\"a\":" + entry("F32", "[18446744073709551616]", "[0,4]") + "}", 4),
     "no unsigned 64-bit integer"},
    {"string_shape", file_with("{\"a\":" + entry("F32", "[\"1\"]", "[0,4]") + "}", 4),
     "a string in \"shape\""},
    {"shape_no_list", file_with("{\"a\":" + entry("F32", "1", "[0,4]") + "}", 4),
     "a number as \"shape\""},
    {"negative_offset", file_with("{\"a\":" + entry("F32", "[1]", "[-0,4]") + "}", 4),
     "data_offsets"},
    {"three_offsets", file_with("{\"a\":" + entry("F32", "[1]", "[0,4,4]") + "}", 4),
     "more than 2 numbers"},
    {"one_offset", file_with("{\"a\":" + entry("F32", "[1]", "[4]") + "}", 4), "1 numbers, not 2"},
    {"many_dimensions",
     file_with("{\"a\":" + entry("U8", "[1" + repeated(",1", 64) + "]", "[0,1]") + "}", 1),
     "\"a\": more than 64 dimensions"},
    {"name_twice", file_with("{\"a\":" + kGood + ",\"a\":" + kGood + "}", 4),
     "\"a\" stands there twice"},
    {"name_twice_escaped", file_with("{\"a\":" + kGood + ",\"\\u0061\":" + kGood + "}", 4),
     "\"a\" stands there twice"},
    {"metadata_twice", file_with(R"({"__metadata__":{},"__metadata__":{}})"), "twice"},
    {"metadata_key_twice", file_with(R"({"__metadata__":{"k":"1","k":"2"}})"), "\"k\" twice"},
    {"metadata_number", file_with(R"({"__metadata__":{"k":1}})"), "a number, not a string"},
    {"metadata_object", file_with(R"({"__metadata__":{"k":{}}})"), "not a string"},
    {"metadata_no_object", file_with(R"({"__metadata__":"x"})"), "not an object"},
    {"no_dtype", file_with(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4), "no \"dtype\""},
    {"no_shape", file_with(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "no \"shape\""},
    {"no_offsets", file_with(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "no \"data_offsets\""},
    {"field_twice",
     file_with(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
     "two of \"dtype\""},
    {"array", file_with("[]"), "an array, not an object"},
    {"number", file_with("7"), "a number, not an object"},
    {"null", file_with("null"), "not an object"},
    {"empty_text", file_with(""), "no valid JSON"},
    {"null_entry", file_with(R"({"a":null})"), "\"a\" is null"},
    {"nested_arrays", file_with(std::string(100'000, '[')), "an array, not an object"},
    {"nested_shape", file_with("{\"a\":" + entry("F32", "[[1]]", "[0,4]") + "}", 4),
     "an array in \"shape\""},
    {"nested_unknown", file_with("{\"a\":{\"x\":" + std::string(100'000, '[')), "too deeply"},
    {"name_nul", file_with("{\"a\\u0000b\":" + kGood + "}", 4), "control characters"},
    {"name_escape", file_with("{\"a\\u001bb\":" + kGood + "}", 4), "control characters"},
    {"name_empty", file_with("{\"\":" + kGood + "}", 4), "control characters"},
    {"name_raw_control", file_with("{\"a\nb\":" + kGood + "}", 4), "no valid JSON"},
    {"lone_surrogate", file_with("{\"\\ud800\":" + kGood + "}", 4), "no valid JSON"},
    {"dtype_unknown", file_with("{\"a\":" + entry("F31", "[1]", "[0,4]") + "}", 4),
     "unknown dtype \"F31\""},
    {"dtype_lower_case", file_with("{\"a\":" + entry("f32", "[1]", "[0,4]") + "}", 4),
     "unknown dtype"},
    {"dtype_number", file_with(R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4),
     "a number as \"dtype\""},
    {"text_after_object", file_with("{}x"), "no valid JSON"},
    {"nul_after_object", file_with(std::string("{}\0", 3)), "no valid JSON"},
    {"two_objects", file_with("{}{}"), "no valid JSON"},
    {"byte_order_mark", file_with("\xEF\xBB\xBF{}"), "no valid JSON"},
    {"comment", file_with("{/**/}"), "no valid JSON"},
    {"trailing_comma", file_with("{\"a\":" + kGood + ",}", 4), "no valid JSON"},
    {"unknown_field",
     file_with(R"({"a":{"x":[{"y":1.5}],"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4), ""},
    {"escaped_name", file_with("{\"\\u00e4/b\":" + kGood + "}", 4), ""},
    {"name_order", file_with("{\"b\":" + entry("F32", "[1]", "[4,8]") + ",\"a\":" + kGood + "}", 8),
     ""},
    {"empties_beside",
     file_with("{\"a\":" + kGood + ",\"b\":" + entry("F32", "[0]", "[4,4]") +
                   ",\"c\":" + entry("F32", "[0,3]", "[0,0]") + "}",
               4),
     ""},
};

const auto kNames = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Official, Header, testing::ValuesIn(kOfficial), kNames);
INSTANTIATE_TEST_SUITE_P(Ours, Header, testing::ValuesIn(kOurs), kNames);

TEST(HeaderFields, UnknownOnesAreWarnedOf) {
  const std::string json = R"({"a":{"x":null,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const auto header = parse_header(json, 8 + json.size() + 4, "file");
  ASSERT_EQ(header.warnings.size(), 1u);
  EXPECT_EQ(header.warnings[0], "tensor \"a\": unknown field \"x\"");
}

TEST(HeaderTypes, HaveTheFormatsBits) {
  const std::pair<const char*, int> expected[] = {
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64},
  };
  for (const auto& [name, bits] : expected) {
    const auto type = stored_type_named(name);
    ASSERT_TRUE(type) << name;
    EXPECT_EQ(bits_of(*type), bits) << name;
    EXPECT_EQ(name_of(*type), name);
  }
}

TEST(MakeHeader, IsTheOfficialForm) {
  const auto made = make_header({{.name = "b", .type = StoredType::kF32, .shape = {2}},
                                 {.name = "a\"", .type = StoredType::kF32, .shape = {}},
                                 {.name = "c", .type = StoredType::kI64, .shape = {1, 1}}},
                                {}, "file");
  const std::string json =
      R"({"__metadata__":{"format":"pt"},"c":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},)"
      R"("a\"":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})";
  EXPECT_EQ(made.bytes.substr(8, json.size()), json);
  EXPECT_EQ(made.bytes.size() % 8, 0u);
  EXPECT_EQ(made.bytes.substr(0, 8), little_endian(made.bytes.size() - 8));
  EXPECT_EQ(made.bytes.find_first_not_of(' ', 8 + json.size()), std::string::npos);
  EXPECT_EQ(made.header.tensors[2].begin, made.bytes.size() + 12);
}

TEST(MakeHeader, RefusesWhatReadersWould) {
  const StoredTensor a{.name = "a", .shape = {1}};
  EXPECT_THROW(make_header({a, a}, {}, "file"), CheckpointError);
  EXPECT_THROW(make_header({{.name = "__metadata__"}}, {}, "file"), CheckpointError);
  EXPECT_THROW(make_header({{.name = "a\n"}}, {}, "file"), CheckpointError);
  EXPECT_THROW(make_header({{.name = std::string(kMaxHeaderBytes, 'a')}}, {}, "file"),
               CheckpointError);
}

}  // namespace
}  // namespace switchyard
