// The framing of TensorBoard's records; tests/cli reads whole files with an independent reader.
#include "report/event_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/errors.h"
#include "support/temporary_directory.h"

namespace switchyard::test {
namespace {

// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
}

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST(EventFile, EachOneIsNewAndHoldsItsRecords) {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "tensorboard";
  EventFile first(folder), second(folder);
  first.write("one");
  first.write("");
  std::vector<std::string> contents;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    EXPECT_EQ(entry.path().filename().string().rfind("events.out.tfevents.", 0), 0u);
    contents.push_back(read_file(entry.path()));
  }
  std::sort(contents.begin(), contents.end());
  EXPECT_EQ(contents, (std::vector<std::string>{"", event_record("one") + event_record("")}));
  EXPECT_EQ(event_record("one").size(), 3u + 16u);
}

TEST(EventFile, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "file") << "in the way";
  try {
    EventFile file(directory.path() / "file" / "tensorboard");
    FAIL() << "no exception";
  } catch (const SpaceError& error) {
    EXPECT_NE(std::string(error.what()).find("run.tensorboard: false"), std::string::npos);
  }
}

}  // namespace
}  // namespace switchyard::test
