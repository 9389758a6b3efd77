#include "safetensors/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/errors.h"
#include "safetensors/elements.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <typename T>
Tensor tensor_of(const Shape& shape, std::initializer_list<T> values) {
  Tensor tensor(DTypeOf<T>::value, shape);
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "no error";
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  void write_one(const std::string& file, const std::string& tensor, float value) {
    const Tensor data = tensor_of<float>({1}, {value});
    write_safetensors(path(file), {tensor_to_write(tensor, data)});
  }

  TemporaryDirectory directory_;
};

TEST_F(Safetensors, ReadsBackEveryTypeBitByBit) {
  const Tensor f32 = tensor_of<float>({2, 1}, {-0.0f, 1e-45f});
  const Tensor f64 = tensor_of<double>({}, {0.1});
  const Tensor i32 = tensor_of<int32_t>({3}, {-1, 0, 7});
  const Tensor i64 = tensor_of<int64_t>({1, 1, 1, 1, 1}, {INT64_MIN});
  const Tensor u8 = tensor_of<uint8_t>({3}, {0, 255, 3});
  const Tensor none(DType::kFloat32, {0, 4});
  write_safetensors(
      path("a"),
      {tensor_to_write("f32", f32), tensor_to_write("f64", f64), tensor_to_write("i32", i32),
       tensor_to_write("i64", i64), tensor_to_write("u8", u8), tensor_to_write("none", none)},
      {{"made_by", "a \"test\""}});
  const auto file = SafetensorsFile::open(path("a"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("made_by"), "a \"test\"");
  EXPECT_EQ(file.tensors().size(), 6u);
  const std::pair<const char*, const Tensor*> expected[] = {
      {"f32", &f32}, {"f64", &f64}, {"i32", &i32}, {"i64", &i64}, {"u8", &u8}, {"none", &none}};
  for (const auto& [name, tensor] : expected) {
    const Tensor read = file.read(name);
    EXPECT_EQ(read.dtype(), tensor->dtype());
    EXPECT_EQ(read.shape(), tensor->shape());
    EXPECT_EQ(std::memcmp(read.view().raw(), tensor->view().raw(), read.size_bytes()), 0) << name;
  }
}

// What the official package 0.8.0 writes for {"b": float32 [2], "a": bfloat16 [1]}.
TEST_F(Safetensors, ReadsAFileOfTheOfficialWriter) {
  const std::string json = R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("a":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}})"
                           "   ";
  const std::string length("p\0\0\0\0\0\0\0", 8);
  const std::string data("\0\0\x80\x3f\0\0\x20\xc1\xc0\x3f", 10);
  write_text(path("a"), length + json + data);
  const auto file = SafetensorsFile::open(path("a"));
  EXPECT_THAT(std::span(file.read("b").data<float>(), 2), ElementsAre(1.0f, -10.0f));
  EXPECT_EQ(file.read("a").dtype(), DType::kBFloat16);
  EXPECT_THAT(file.data("a"), ElementsAre(std::byte{0xc0}, std::byte{0x3f}));
}

TEST_F(Safetensors, NamesFileAndTensorOfWhatIsMissing) {
  write_one("a", "x", 1);
  const auto file = SafetensorsFile::open(path("a"));
  const std::string message = message_of([&] { file.read("y"); });
  EXPECT_THAT(message, HasSubstr("no tensor \"y\""));
  EXPECT_THAT(message, HasSubstr(path("a").string()));
  EXPECT_THAT(message_of([&] { SafetensorsFile::open(path("b")); }), HasSubstr(path("b").string()));
  EXPECT_THAT(message_of([&] { SafetensorsFile::open(directory_.path()); }),
              HasSubstr("Is a directory"));
}

TEST_F(Safetensors, RefusesToUseAnUnusableTypeButListsIt) {
  const std::byte bytes[4] = {};
  write_safetensors(path("a"), {{"c", StoredType::kF16, {2}, bytes}});
  const auto file = SafetensorsFile::open(path("a"));
  EXPECT_EQ(file.tensor("c").type, StoredType::kF16);
  EXPECT_EQ(file.data("c").size(), 4u);
  EXPECT_THAT(message_of([&] { file.read("c"); }), HasSubstr("\"c\""));
}

TEST_F(Safetensors, NeverOverwritesAFile) {
  write_one("a", "x", 1);
  EXPECT_THAT(message_of([&] { write_one("a", "x", 2); }), HasSubstr("File exists"));
  EXPECT_EQ(SafetensorsFile::open(path("a")).read("x").data<float>()[0], 1.0f);
}

TEST_F(Safetensors, ReadsASetThroughItsIndex) {
  write_one(shard_name("model", 1, 2), "x", 1);
  write_one(shard_name("model", 2, 2), "y", 2);
  SafetensorsIndex index{.total_bytes = 8,
                         .file_of = {{"x", "model-00001-of-00002.safetensors"},
                                     {"y", "model-00002-of-00002.safetensors"}}};
  write_text(path("model.safetensors.index.json"), index_text(index));
  const auto set = SafetensorsSet::open(directory_.path());
  EXPECT_THAT(set.names(), ElementsAre("x", "y"));
  EXPECT_EQ(set.file_of("y").read("y").data<float>()[0], 2.0f);
  EXPECT_TRUE(set.warnings().empty());
  EXPECT_THAT(message_of([&] { set.file_of("z"); }), HasSubstr("no tensor \"z\""));
}

TEST_F(Safetensors, ReadsASetOfOneFileByFolderOrByName) {
  write_one("model.safetensors", "x", 1);
  EXPECT_THAT(SafetensorsSet::open(directory_.path()).names(), ElementsAre("x"));
  EXPECT_THAT(SafetensorsSet::open(path("model.safetensors")).names(), ElementsAre("x"));
  EXPECT_THAT(message_of([&] { SafetensorsSet::open(path("none")); }),
              HasSubstr("No such file or directory"));
}

TEST_F(Safetensors, WarnsOfTensorsThatTheIndexLeavesOut) {
  const Tensor one = tensor_of<float>({1}, {1});
  write_safetensors(path("m.safetensors"), {tensor_to_write("x", one), tensor_to_write("y", one)});
  write_text(path("model.safetensors.index.json"), R"({"weight_map":{"x":"m.safetensors"}})");
  const auto set = SafetensorsSet::open(directory_.path());
  EXPECT_THAT(set.names(), ElementsAre("x"));
  EXPECT_THAT(set.warnings(), ElementsAre(HasSubstr("\"y\"")));
}

TEST_F(Safetensors, RefusesASetThatDoesNotHoldWhatItsIndexSays) {
  write_one("m.safetensors", "x", 1);
  const auto open_with = [&](const std::string& json) {
    write_text(path("model.safetensors.index.json"), json);
    return message_of([&] { SafetensorsSet::open(directory_.path()); });
  };
  EXPECT_THAT(open_with(R"({"weight_map":{"y":"m.safetensors"}})"), HasSubstr("no tensor \"y\""));
  EXPECT_THAT(open_with(R"({"weight_map":{"x":"n.safetensors"}})"), HasSubstr("n.safetensors"));
  std::filesystem::create_symlink(path("m.safetensors"), path("l.safetensors"));
  EXPECT_THAT(open_with(R"({"weight_map":{"x":"l.safetensors"}})"),
              HasSubstr("it is a link, and links are not followed"));
}

TEST(SafetensorsIndex, RefusesBadOnes) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no valid JSON"},
      {"[]", "not an object"},
      {"{}", "no \"weight_map\""},
      {R"({"weight_map":{"x":"a"},"weight_map":{}})", "twice"},
      {R"({"weight_map":{"x":"a","x":"a"}})", "twice"},
      {R"({"weight_map":[]})", "an array"},
      {R"({"weight_map":"a"})", "a string, not an object"},
      {R"({"weight_map":{"x":1}})", "a number as file name"},
      {R"({"weight_map":{"x":{}}})", "no file name"},
      {R"({"weight_map":{"x":"../a"}})", "\"../a\" is no file name"},
      {R"({"weight_map":{"x":".."}})", "no file name"},
      {R"({"weight_map":{"x":"/etc/passwd"}})", "no file name"},
      {R"({"weight_map":{"x":"a/b"}})", "no file name"},
      {R"({"weight_map":{"x":"a\\b"}})", "no file name"},
      {R"({"weight_map":{"x":""}})", "no file name"},
      {R"({"weight_map":{"x":".a"}})", "no file name"},
      {R"({"weight_map":{"x":"a\u0000b"}})", "no file name"},
      {R"({"weight_map":{"\u0000":"a"}})", "unfit"},
      {R"({"weight_map":{}}x)", "no valid JSON"},
  };
  for (const auto& [json, expected] : cases) {
    EXPECT_THAT(message_of([json = json] { parse_index(json, "i"); }), HasSubstr(expected)) << json;
  }
  const std::string deep = R"({"metadata":)" + std::string(100'000, '[');
  EXPECT_THAT(message_of([&] { parse_index(deep, "i"); }), HasSubstr("too deeply"));
}

TEST(SafetensorsIndex, AcceptsWhatHuggingFaceWrites) {
  const auto index =
      parse_index(R"({"metadata":{"total_size":1.6e10,"x":[null,{"weight_map":true}]},)"
                  R"("weight_map":{"a.b":"model-00001-of-00002.safetensors"}})",
                  "i");
  EXPECT_EQ(index.file_of.at("a.b"), "model-00001-of-00002.safetensors");
}

TEST(SafetensorsIndex, IsWrittenInHuggingFacesForm) {
  EXPECT_EQ(index_text({.total_bytes = 8, .file_of = {{"x", "f"}}}),
            "{\n  \"metadata\": {\n    \"total_size\": 8\n  },\n"
            "  \"weight_map\": {\n    \"x\": \"f\"\n  }\n}\n");
}

// Every single-byte change of a header either is refused or reads as another well-formed header.
TEST_F(Safetensors, SurvivesEveryChangedHeaderByte) {
  const Tensor data = tensor_of<float>({2}, {1, 2});
  write_safetensors(path("a"), {tensor_to_write("x", data), tensor_to_write("y", data)});
  const std::string good = text_of(path("a"));
  const size_t header_end = good.size() - 16;
  int refused = 0;
  for (size_t at = 0; at < header_end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(bad.data()),
                                             bad.size());
      try {
        const uint64_t length = read_header_length(bytes, bad.size(), "f");
        parse_header(std::string_view(bad).substr(8, length), bad.size(), "f");
      } catch (const CheckpointError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 0);
}

TEST_F(Safetensors, RefusesEveryTruncation) {
  const Tensor data = tensor_of<float>({2}, {1, 2});
  write_safetensors(path("a"), {tensor_to_write("x", data)});
  const auto size = std::filesystem::file_size(path("a"));
  for (auto shorter = size; shorter-- > 0;) {
    std::filesystem::resize_file(path("a"), shorter);
    EXPECT_THROW(SafetensorsFile::open(path("a")), CheckpointError) << shorter;
  }
}

TEST(Elements, AreNumbersOfEveryTypeThatHasThem) {
  const std::pair<StoredType, std::pair<std::string, double>> cases[] = {
      {StoredType::kF64, {std::string("\0\0\0\0\0\0\xf8\xbf", 8), -1.5}},
      {StoredType::kF32, {std::string("\0\0\xc0\xbf", 4), -1.5}},
      {StoredType::kBF16, {"\xc0\xbf", -1.5}},
      {StoredType::kF16, {std::string("\0\xbe", 2), -1.5}},
      {StoredType::kI64, {"\xfe\xff\xff\xff\xff\xff\xff\xff", -2}},
      {StoredType::kU64, {std::string("\0\0\0\0\0\0\0\x80", 8), 0x1p63}},
      {StoredType::kI32, {"\xfe\xff\xff\xff", -2}},
      {StoredType::kU32, {"\xfe\xff\xff\xff", 4294967294.0}},
      {StoredType::kI16, {"\xfe\xff", -2}},
      {StoredType::kU16, {"\xfe\xff", 65534}},
      {StoredType::kI8, {"\xfe", -2}},
      {StoredType::kU8, {"\xfe", 254}},
      {StoredType::kBool, {"\x01", 1}},
  };
  for (const auto& [type, expected] : cases) {
    // Twice, the second time at an odd address for every type.
    const std::string bytes = expected.first + expected.first;
    std::vector<std::byte> unaligned(bytes.size() + 1);
    std::memcpy(unaligned.data() + 1, bytes.data(), bytes.size());
    double numbers[2] = {};
    ASSERT_TRUE(is_number(type)) << name_of(type);
    to_float64(type, unaligned.data() + 1, 2, numbers);
    EXPECT_THAT(numbers, ElementsAre(expected.second, expected.second)) << name_of(type);
    if (!fits_float32(type)) continue;
    float floats[2] = {};
    to_float32(type, unaligned.data() + 1, 2, floats);
    EXPECT_THAT(floats, ElementsAre(-1.5f, -1.5f)) << name_of(type);
  }
  for (const StoredType type : {StoredType::kF4, StoredType::kF8E4M3, StoredType::kC64}) {
    EXPECT_FALSE(is_number(type) || fits_float32(type)) << name_of(type);
  }
}

}  // namespace
}  // namespace switchyard
