#include "safetensors/file_system.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/errors.h"
#include "support/faulty_file_system.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

TEST(FileOutput, HashesEveryChunkHoweverItIsWritten) {
  TemporaryDirectory directory;
  std::string text(2 * kChunkBytes + 17, 'x');
  for (size_t i = 0; i < text.size(); i += 1000) text[i] = static_cast<char>(i / 1000);
  const std::string_view view = text;
  int file_number = 0;
  for (const size_t piece : {size_t{1000}, size_t{kChunkBytes}, text.size()}) {
    FileOutput out(FileSystem::real(), directory.path() / std::to_string(file_number++));
    for (size_t at = 0; at < text.size(); at += piece) out.write(view.substr(at, piece));
    out.finish();
    EXPECT_EQ(out.size_bytes(), text.size());
    ASSERT_EQ(out.chunk_digests().size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(out.chunk_digests()[i], digest_of(view.substr(i * kChunkBytes, kChunkBytes)));
    }
    EXPECT_EQ(digest_of_file(out.path()), digest_of(view));
  }
}

// Follows what is written and what is sent on its way to the disk.
class WatchedDisk : public FaultyFileSystem {
 public:
  int write(int file, const void* data, size_t size_bytes, size_t& written) override {
    const int error = FaultyFileSystem::write(file, data, size_bytes, written);
    written_ += written;
    return error;
  }
  void start_sync(int file, uint64_t offset, uint64_t size_bytes) noexcept override {
    EXPECT_EQ(offset, under_way_);
    under_way_ += size_bytes;
    EXPECT_LE(under_way_, written_);
    most_waiting_ = std::max(most_waiting_, size_bytes);
    FileSystem::real().start_sync(file, offset, size_bytes);
  }

  uint64_t written_ = 0, under_way_ = 0, most_waiting_ = 0;
};

TEST(FileOutput, SendsLongFilesToTheDiskWhileTheyAreWritten) {
  const TemporaryDirectory directory;
  const std::string text(20 * kChunkBytes + 5, 'x');
  WatchedDisk disk;
  FileOutput out(disk, directory.path() / "a");
  for (size_t at = 0; at < text.size(); at += 300'000) {
    out.write(std::string_view(text).substr(at, 300'000));
  }
  out.finish();
  EXPECT_EQ(disk.written_, text.size());
  EXPECT_EQ(disk.under_way_, 16 * kChunkBytes);
  EXPECT_EQ(disk.most_waiting_, 8 * kChunkBytes);
  EXPECT_EQ(digest_of_file(out.path()), digest_of(text));
}

// Creates every file as /dev/full, which takes nothing.
struct FullDisk : FaultyFileSystem {
  int create(const std::filesystem::path&, int& file) override {
    file = ::open("/dev/full", O_WRONLY);
    return file < 0 ? errno : 0;
  }
};

TEST(FileOutput, SaysWhenTheDiskIsFull) {
  FullDisk disk;
  FileOutput out(disk, "a/b");
  try {
    out.write("text");
    out.finish();
    FAIL() << "written to a full disk";
  } catch (const SpaceError& error) {
    EXPECT_EQ(error.where(), "a/b");
    EXPECT_EQ(error.exit_code(), ExitCode::kNoSpace);
  }
}

TEST(FileOutput, ChecksEveryCall) {
  for (const std::string call : {"create", "write", "sync", "close"}) {
    for (const int error : {EIO, EDQUOT}) {
      TemporaryDirectory directory;
      FaultyFileSystem files(0, error, {call});
      const auto write = [&] {
        FileOutput out(files, directory.path() / "a");
        out.write("text");
        out.finish();
      };
      if (error == EIO) {
        EXPECT_THROW(write(), CheckpointError) << call;
      } else {
        EXPECT_THROW(write(), SpaceError) << call;
      }
    }
  }
}

// Takes one byte a call, and is interrupted before every second.
struct SlowDisk : FaultyFileSystem {
  int write(int file, const void* data, size_t, size_t& written) override {
    return ++turn % 2 ? EINTR : real().write(file, data, 1, written);
  }
  int turn = 0;
};

TEST(FileOutput, GoesOnAfterShortAndInterruptedWrites) {
  TemporaryDirectory directory;
  SlowDisk disk;
  FileOutput out(disk, directory.path() / "a");
  out.write("some text");
  out.finish();
  EXPECT_EQ(digest_of_file(out.path()), digest_of("some text"));
}

TEST(FileInput, RefusesWhatIsNoRegularFile) {
  TemporaryDirectory directory;
  const auto pipe = directory.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(FileInput(FileSystem::real(), pipe, Links::kFollow), CheckpointError);
  EXPECT_THROW(FileInput(FileSystem::real(), directory.path(), Links::kFollow), CheckpointError);
  std::ofstream(directory.path() / "file") << "abc";
  std::filesystem::create_symlink("file", directory.path() / "link");
  EXPECT_THROW(FileInput(FileSystem::real(), directory.path() / "link", Links::kRefuse),
               CheckpointError);
  FileInput file(FileSystem::real(), directory.path() / "link", Links::kFollow);
  char bytes[2];
  file.read(1, bytes, 2);
  EXPECT_EQ(std::string(bytes, 2), "bc");
  EXPECT_THROW(file.read(2, bytes, 2), CheckpointError);
}

TEST(FileSystem, ExchangesTwoDirectories) {
  TemporaryDirectory directory;
  FileSystem& files = FileSystem::real();
  const auto a = directory.path() / "a", b = directory.path() / "b";
  ASSERT_EQ(files.make_directory(a), 0);
  ASSERT_EQ(files.make_directory(b), 0);
  std::ofstream(a / "x") << "x";
  const int error = files.exchange(a, b);
  if (error == EINVAL || error == ENOSYS) GTEST_SKIP() << "not on this file system";
  ASSERT_EQ(error, 0);
  EXPECT_TRUE(std::filesystem::exists(b / "x"));
  EXPECT_EQ(files.remove(b), ENOTEMPTY);
}

}  // namespace
}  // namespace switchyard
