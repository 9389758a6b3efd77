#include "data/token_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>

#include "base/errors.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

class TokenFileTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "train.tokens";

  void write(int vocabulary) {
    TokenFileWriter writer(path_, vocabulary, 3);
    writer.add(std::vector<int32_t>{5, 6, 7}, 2);
    writer.add({}, 0);
    writer.add(std::vector<int32_t>{8, vocabulary - 1}, 1);
    writer.finish();
  }

  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void overwrite(const std::string& text) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
  }

  // Changes the header and makes its digest fit again: what a hostile writer can do.
  void forge(const std::function<void(TokenFileHeader&, std::string& rest)>& change) const {
    std::string all = bytes();
    TokenFileHeader header;
    std::memcpy(&header, all.data(), sizeof header);
    std::string rest = all.substr(sizeof header);
    change(header, rest);
    const size_t id_bytes = (header.tokens * header.id_bytes + 7) / 8 * 8;
    if (id_bytes <= rest.size()) {
      const Digest index = digest_of(rest.data() + id_bytes, rest.size() - id_bytes);
      std::memcpy(header.index_xxh3, index.bytes.data(), 16);
    }
    const Digest digest = digest_of(&header, 112);
    std::memcpy(header.header_xxh3, digest.bytes.data(), 16);
    overwrite(std::string(reinterpret_cast<const char*>(&header), sizeof header) + rest);
  }

  std::string refusal() const {
    try {
      TokenFile(path_).verify();
    } catch (const InputError& error) {
      EXPECT_EQ(error.where(), path_.string());
      return error.what();
    }
    return "";
  }
};

TEST_F(TokenFileTest, RoundTripsInTwoAndInFourBytes) {
  for (const int vocabulary : {65'536, 65'537}) {
    std::filesystem::remove(path_);
    write(vocabulary);
    const TokenFile file(path_);
    EXPECT_EQ(file.token_count(), 5);
    EXPECT_EQ(file.document_count(), 3);
    EXPECT_EQ(file.vocabulary(), vocabulary);
    EXPECT_EQ(file.label_count(), 3);
    EXPECT_EQ(file.document_begin(1), 3);
    EXPECT_EQ(file.document_begin(2), 3);
    EXPECT_EQ(file.document_begin(3), 5);
    EXPECT_EQ(file.document_label(0), 2);
    EXPECT_EQ(file.document_label(2), 1);
    std::vector<int32_t> ids(5);
    file.read(0, ids);
    EXPECT_EQ(ids, (std::vector<int32_t>{5, 6, 7, 8, vocabulary - 1}));
    std::vector<int32_t> middle(2);
    file.read(2, middle);
    EXPECT_EQ(middle, (std::vector<int32_t>{7, 8}));
    EXPECT_NO_THROW(file.verify());
    EXPECT_THROW(file.read(4, middle), Error);
  }
}

TEST_F(TokenFileTest, LayoutIsTheDocumentedOne) {
  write(1000);
  const std::string all = bytes();
  ASSERT_EQ(all.size(), 128u + 16 + 4 * 8 + 3 * 4);  // 5 ids of 2 bytes and 6 of padding
  EXPECT_EQ(all.substr(0, 8), "SWTOKENS");
  EXPECT_EQ(all.substr(128, 16), std::string("\5\0\6\0\7\0\10\0\xe7\3\0\0\0\0\0\0", 16));
  EXPECT_EQ(all.substr(144, 8), std::string(8, '\0'));
  EXPECT_EQ(all.substr(144 + 24, 8), std::string("\5\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(all.substr(176, 4), std::string("\2\0\0\0", 4));
}

TEST_F(TokenFileTest, AnEmptySplitIsAFile) {
  TokenFileWriter(path_, 1000, 1).finish();
  const TokenFile file(path_);
  EXPECT_EQ(file.token_count(), 0);
  EXPECT_EQ(file.document_count(), 0);
  EXPECT_NO_THROW(file.verify());
}

TEST_F(TokenFileTest, UnfinishedOrMissingIsRefused) {
  EXPECT_NE(refusal().find("No such file"), std::string::npos);
  {
    TokenFileWriter writer(path_, 1000, 1);
    writer.add(std::vector<int32_t>(2'000'000, 3), 0);
  }
  EXPECT_NE(refusal().find("unfinished"), std::string::npos) << refusal();
  overwrite("");
  EXPECT_NE(refusal().find("0 bytes hold no header"), std::string::npos);
  EXPECT_NE(refusal().find("switchyard data build"), std::string::npos);
}

TEST_F(TokenFileTest, EveryTruncationAndEveryFlippedBitIsRefused) {
  write(1000);
  const std::string whole = bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    overwrite(whole.substr(0, size));
    EXPECT_NE(refusal(), "") << size << " bytes";
  }
  overwrite(whole + '\0');
  EXPECT_NE(refusal(), "");
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    overwrite(damaged);
    EXPECT_NE(refusal(), "") << "bit " << bit;
  }
}

TEST_F(TokenFileTest, ForgedHeadersAreRefused) {
  const auto refused = [&](const std::function<void(TokenFileHeader&, std::string&)>& change) {
    std::filesystem::remove(path_);
    write(1000);
    forge(change);
    return refusal();
  };
  using H = TokenFileHeader;
  EXPECT_EQ(refused([](H&, std::string&) {}), "") << "the forging itself must be sound";
  EXPECT_NE(refused([](H& h, std::string&) { h.version = 2; }).find("version 2"),
            std::string::npos);
  EXPECT_NE(refused([](H& h, std::string&) { h.id_bytes = 3; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.id_bytes = 0; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.tokens = ~uint64_t{0}; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.tokens = uint64_t{1} << 63; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.documents = ~uint64_t{0}; }), "");
  // 2^64 / 12 documents would wrap the size around to a small number.
  EXPECT_NE(refused([](H& h, std::string&) { h.documents = 0x1555555555555556; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.vocabulary = 7; }).find("in a vocabulary of 7"),
            std::string::npos);
  EXPECT_NE(refused([](H& h, std::string&) { h.vocabulary = ~0u; }), "");
  EXPECT_NE(refused([](H& h, std::string&) { h.labels = 2; }).find("label 2 of 2"),
            std::string::npos);
}

TEST_F(TokenFileTest, ForgedIndicesAreRefused) {
  const auto with_offset = [&](int which, int64_t value) {
    std::filesystem::remove(path_);
    write(1000);
    forge([&](TokenFileHeader&, std::string& rest) {
      std::memcpy(rest.data() + 16 + which * 8, &value, 8);
    });
    return refusal();
  };
  EXPECT_NE(with_offset(0, 1), "");
  EXPECT_NE(with_offset(0, -1), "");
  EXPECT_NE(with_offset(1, 6), "");
  EXPECT_NE(with_offset(1, -1), "");
  EXPECT_NE(with_offset(2, 2), "");
  EXPECT_NE(with_offset(3, 4), "");
  EXPECT_NE(with_offset(3, int64_t{1} << 62), "");
}

TEST_F(TokenFileTest, IdsAreCheckedWhereTheyAreRead) {
  write(1000);
  std::string all = bytes();
  all[128 + 3] = '\x7f';  // the second id
  overwrite(all);
  const TokenFile file(path_);  // opening stays cheap: it doesn't read the ids
  std::vector<int32_t> ids(3);
  EXPECT_THROW(file.read(0, ids), InputError);
  EXPECT_THROW(file.verify(), InputError);
  EXPECT_NO_THROW(file.read(2, ids));
}

TEST_F(TokenFileTest, ADirectoryIsRefused) {
  std::filesystem::create_directory(path_);
  EXPECT_NE(refusal(), "");
}

TEST_F(TokenFileTest, ExistingFilesAreNotOverwritten) {
  write(1000);
  EXPECT_THROW(TokenFileWriter(path_, 1000, 1), InputError);
}

TEST(OutputFile, AFullDiskIsASpaceError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  // OutputFile creates its file anew, so the full device is reached through a link made of it.
  TemporaryDirectory directory;
  OutputFile file(directory.path() / "file");
  file.write("text");
  const std::string descriptor = "/proc/self/fd";
  bool replaced = false;
  for (const auto& entry : std::filesystem::directory_iterator(descriptor)) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (!error && target == directory.path() / "file") {
      const int full = ::open("/dev/full", O_RDWR);
      ASSERT_GE(full, 0);
      ::dup2(full, std::stoi(entry.path().filename().string()));
      ::close(full);
      replaced = true;
    }
  }
  ASSERT_TRUE(replaced);
  EXPECT_THROW(file.finish(), SpaceError);
}

}  // namespace
}  // namespace switchyard
