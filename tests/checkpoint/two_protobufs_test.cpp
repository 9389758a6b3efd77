// sentencepiece carries a protobuf of its own: both work in one process, and ours is not seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "data/tokenizer.h"
#include "data/tokenizer_trainer.h"

namespace switchyard {
namespace {

std::string small_tokenizer() {
  std::vector<std::string> lines;
  for (uint32_t i = 0; i < 400; ++i) {
    std::string line;
    for (uint32_t word = 0; word < 8; ++word) {
      uint32_t bits = (i * 8 + word) * 2654435761u;
      for (int letter = 0; letter < 6; ++letter, bits >>= 3) line += "bakomitu"[bits >> 9 & 7];
      line += ' ';
    }
    lines.push_back(line);
  }
  size_t next = 0;
  return train_tokenizer({.vocabulary = 384, .character_coverage = 1.0, .threads = 1},
                         [&](std::string_view& line) {
                           if (next == lines.size()) return false;
                           line = lines[next++];
                           return true;
                         });
}

TEST(TwoProtobufs, WorkInOneProcess) {
  const Manifest manifest{.program_version = "0.1.0", .step = 3};
  EXPECT_EQ(decode_manifest(encode_manifest(manifest), "m").step, 3);
  const Tokenizer tokenizer = Tokenizer::from_bytes(small_tokenizer(), "small");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("bako mitu")), "bako mitu");
  EXPECT_EQ(decode_manifest(encode_manifest(manifest), "m").step, 3);
}

TEST(TwoProtobufs, OursIsNotSeenFromOutside) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  FILE* listing = ::popen(("nm -D --defined-only '" + program + "'").c_str(), "r");
  ASSERT_NE(listing, nullptr);
  std::string symbols;
  char buffer[4096];
  while (const size_t count = ::fread(buffer, 1, sizeof buffer, listing)) {
    symbols.append(buffer, count);
  }
  ASSERT_EQ(::pclose(listing), 0);
  // Mangled: google::protobuf, switchyard::proto.
  EXPECT_EQ(symbols.find("6google8protobuf"), std::string::npos) << symbols;
  EXPECT_EQ(symbols.find("10switchyard5proto"), std::string::npos) << symbols;
}

}  // namespace
}  // namespace switchyard
