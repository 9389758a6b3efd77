#include "checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "safetensors/file_system.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

// Protocol-buffer wire format by hand, so that the library isn't its own witness.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(uint64_t field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}
std::string raw(const Digest& digest) { return {digest.bytes.begin(), digest.bytes.end()}; }
std::string sealed(const std::string& body) {
  return bytes(1, body) + bytes(2, raw(digest_of(body)));
}

Manifest small_manifest() {
  Manifest manifest{.program_version = "0.1.0",
                    .step = 1200,
                    .tokens_seen = 3,
                    .sampler_position = 4,
                    .seed = 5,
                    .layout = {.ranks = 4, .expert_group_size = 2, .sharded_optimizer = true},
                    .config_hash = digest_of("config"),
                    .dataset_hash = digest_of("data")};
  manifest.tensors = {
      {.name = "a",
       .part = TensorPart::kOptimizer,
       .type = StoredType::kF32,
       .shape = {2, 3},
       .slices = {{"f", 8, 16, 0, 2, digest_of("x")}, {"g", 0, 16, 2, 4, digest_of("y")}}}};
  manifest.files = {{"f", kChunkBytes + 1, {digest_of("1"), digest_of("2")}},
                    {"g", 16, {digest_of("3")}}};
  return manifest;
}

std::string small_body(const std::string& inside_slice = "", uint64_t version = 1) {
  const auto slice = [&](const std::string& file, uint64_t begin, uint64_t end, uint64_t first,
                         uint64_t elements, const std::string& data) {
    return bytes(5, bytes(1, file) + (begin ? number(2, begin) : "") + number(3, end) +
                        (first ? number(4, first) : "") + number(5, elements) +
                        bytes(6, raw(digest_of(data))) + inside_slice);
  };
  return number(1, version) + bytes(2, "0.1.0") + number(3, 1200) + number(4, 3) + number(5, 4) +
         number(6, 5) + bytes(7, number(1, 4) + number(2, 2) + number(3, 1)) +
         bytes(8, raw(digest_of("config"))) + bytes(9, raw(digest_of("data"))) +
         bytes(10, bytes(1, "a") + number(2, 1) + bytes(3, "F32") + bytes(4, "\2\3") +
                       slice("f", 8, 16, 0, 2, "x") + slice("g", 0, 16, 2, 4, "y")) +
         bytes(11, bytes(1, "f") + number(2, kChunkBytes + 1) +
                       bytes(3, raw(digest_of("1")) + raw(digest_of("2")))) +
         bytes(11, bytes(1, "g") + number(2, 16) + bytes(3, raw(digest_of("3"))));
}

TEST(Manifest, IsOnDiskAsItsFormatSays) {
  EXPECT_EQ(encode_manifest(small_manifest()), sealed(small_body()));
}

TEST(Manifest, ComesBack) {
  const std::string encoded = sealed(small_body());
  const Manifest manifest = decode_manifest(encoded, "m");
  check_manifest(manifest, "m");
  EXPECT_EQ(encode_manifest(manifest), encoded);
  EXPECT_EQ(manifest.step, 1200);
  EXPECT_EQ(manifest.layout.expert_group_size, 2);
  EXPECT_EQ(manifest.tensors[0].slices[1].first_element, 2u);
  EXPECT_EQ(manifest.tensors[0].slice_name(1), "a#1");
  EXPECT_EQ(manifest.file("f")->size_bytes, kChunkBytes + 1);
}

std::string decode_error(const std::string& encoded) {
  try {
    decode_manifest(encoded, "m");
  } catch (const CheckpointError& error) {
    EXPECT_EQ(error.where(), "m");
    return error.what();
  }
  return "accepted";
}

TEST(Manifest, RefusesWhatItDoesNotKnow) {
  const std::string body = small_body();
  EXPECT_THAT(decode_error(""), HasSubstr("damaged"));
  EXPECT_THAT(decode_error("not a manifest"), HasSubstr("damaged"));
  EXPECT_THAT(decode_error(sealed(number(3, 1))), HasSubstr("version 0"));
  EXPECT_THAT(decode_error(bytes(1, body)), HasSubstr("hash"));
  EXPECT_THAT(decode_error(bytes(1, body) + bytes(2, std::string(16, 'x'))), HasSubstr("hash"));
  EXPECT_THAT(decode_error(sealed(body) + number(3, 1)), HasSubstr("does not cover"));
  EXPECT_THAT(decode_error(bytes(2, raw(digest_of(body))) + bytes(1, body)),
              HasSubstr("does not cover"));
  EXPECT_THAT(decode_error(sealed(body + number(12, 1))), HasSubstr("does not know"));
  EXPECT_THAT(decode_error(sealed(small_body(number(7, 1)))), HasSubstr("does not know"));
  EXPECT_THAT(decode_error(sealed(small_body("", 2))), HasSubstr("version 2"));
  EXPECT_THAT(decode_error(sealed(number(1, 2) + bytes(2, "\x1b[2J\n7"))),
              HasSubstr("use Switchyard ?[2J?7 or later"));
  EXPECT_THAT(decode_error(sealed(body + number(3, uint64_t{1} << 63))), HasSubstr("step"));
  EXPECT_THAT(decode_error(sealed(body + bytes(8, "short"))), HasSubstr("config_hash"));
  EXPECT_THAT(decode_error(sealed(body + bytes(11, bytes(3, "short")))), HasSubstr("hashes"));
  EXPECT_THAT(decode_error(sealed(body + bytes(10, bytes(3, "F31")))), HasSubstr("F31"));
  EXPECT_THAT(decode_error(sealed(body + bytes(10, bytes(3, "F32") + number(2, 7)))),
              HasSubstr("part 7"));
}

TEST(Manifest, RefusesDepthAndSize) {
  // Groups are the way to nest without a field of the format.
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += varint(15 << 3 | 3);
  for (int i = 0; i < 100'000; ++i) deep += varint(15 << 3 | 4);
  EXPECT_THAT(decode_error(sealed(deep)), HasSubstr("nested too deeply"));
  EXPECT_THAT(decode_error(deep), HasSubstr("damaged"));
  EXPECT_THAT(decode_error(std::string(kMaxManifestBytes + 1, '\0')), HasSubstr("at most"));
}

TEST(Manifest, RefusesEveryFlippedBitAndTruncation) {
  const std::string good = sealed(small_body());
  for (size_t i = 0; i < 8 * good.size(); ++i) {
    std::string bad = good;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << i % 8));
    EXPECT_THAT(decode_error(bad), HasSubstr("bad manifest")) << i;
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(decode_error(good.substr(0, size)), HasSubstr("bad manifest")) << size;
  }
}

TEST(Manifest, RefusesNumbersThatDoNotFitTogether) {
  using Change = std::function<void(Manifest&)>;
  const std::pair<const char*, Change> cases[] = {
      {"0 ranks", [](Manifest& m) { m.layout.ranks = 0; }},
      {"groups of 3", [](Manifest& m) { m.layout.expert_group_size = 3; }},
      {"groups of 0", [](Manifest& m) { m.layout.expert_group_size = 0; }},
      {"unfit", [](Manifest& m) { m.files[0].name = "../f"; }},
      {"unfit", [](Manifest& m) { m.files[0].name = "/f"; }},
      {"unfit", [](Manifest& m) { m.files[0].name = ""; }},
      {"unfit", [](Manifest& m) { m.files[0].name = "manifest.pb"; }},
      {"there twice", [](Manifest& m) { m.files[0].name = "g"; }},
      {"2 hashes", [](Manifest& m) { m.files[0].size_bytes = 1; }},
      {"2 hashes", [](Manifest& m) { m.files[0].size_bytes = UINT64_MAX; }},
      {"unfit", [](Manifest& m) { m.tensors[0].name = "a\n"; }},
      {"unfit", [](Manifest& m) { m.tensors[0].name = ""; }},
      {"there twice", [](Manifest& m) { m.tensors.push_back(m.tensors[0]); }},
      {"shape or dtype", [](Manifest& m) { m.tensors[0].type = StoredType::kF4; }},
      {"shape or dtype", [](Manifest& m) { m.tensors[0].shape = {2, 3, 1, 1, 1, 1}; }},
      {"shape or dtype",
       [](Manifest& m) {
         m.tensors[0].shape = {2, UINT64_MAX};
       }},
      {"shape or dtype",
       [](Manifest& m) {
         m.tensors[0].shape = {0, UINT64_MAX};
       }},
      {"shape or dtype", [](Manifest& m) { m.tensors[0].shape = {uint64_t{1} << 62}; }},
      {"2 of 4 elements",
       [](Manifest& m) {
         m.tensors[0].shape = {4};
         m.tensors[0].slices.pop_back();
       }},
      {"no slice", [](Manifest& m) { m.tensors[0].slices.clear(); }},
      {"\"h\" unknown", [](Manifest& m) { m.tensors[0].slices[0].file = "h"; }},
      {"bytes 8 to 17", [](Manifest& m) { m.tensors[0].slices[1] = {"g", 8, 17, 2, 4, {}}; }},
      {"bytes 8 to 4", [](Manifest& m) { m.tensors[0].slices[0].end = 4; }},
      {"cover", [](Manifest& m) { m.tensors[0].slices[1].first_element = 1; }},
      {"cover", [](Manifest& m) { m.tensors[0].slices[1].elements = UINT64_MAX; }},
      {"cover", [](Manifest& m) { m.tensors[0].slices[0] = {"f", 8, 8, 0, 0, {}}; }},
      {"2 elements in 4 bytes", [](Manifest& m) { m.tensors[0].slices[0].end = 12; }},
  };
  for (const auto& [expected, change] : cases) {
    Manifest manifest = small_manifest();
    check_manifest(manifest, "m");
    change(manifest);
    try {
      check_manifest(manifest, "m");
      ADD_FAILURE() << "accepted: " << expected;
    } catch (const CheckpointError& error) {
      EXPECT_THAT(error.what(), HasSubstr(expected));
    }
  }
}

}  // namespace
}  // namespace switchyard
