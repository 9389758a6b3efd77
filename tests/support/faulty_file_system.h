// The real file system, or another one, with faults: fails the n-th call, or every call from the
// n-th on, and keeps a record of the calls. Syncing does not wait for the disk.
#pragma once

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "safetensors/file_system.h"

namespace switchyard {

class FaultyFileSystem : public FileSystem {
 public:
  using Path = std::filesystem::path;

  FaultyFileSystem() = default;
  // Calls are counted from 0 over all threads. Calls of `kinds` only, if given: "write", "sync",
  // ...
  FaultyFileSystem(int64_t fail_at, int error, std::set<std::string> kinds = {},
                   bool from_there_on = false, FileSystem& below = FileSystem::real())
      : below_(below),
        fail_at_(fail_at),
        error_(error),
        kinds_(std::move(kinds)),
        from_there_on_(from_there_on) {}

  int64_t calls() const { return calls_; }
  bool failed() const { return failed_; }
  // The kinds of all calls, in order; "close" is of a file that was written, "close_input" of one
  // that was read.
  const std::vector<std::string>& record() const { return record_; }

  int create(const Path& path, int& file) override {
    if (fault("create")) return error_;
    const int error = below_.create(path, file);
    const std::lock_guard lock(mutex_);
    if (error == 0) written_.insert(file);
    return error;
  }
  int write(int file, const void* data, size_t size_bytes, size_t& written) override {
    return fault("write") ? error_ : below_.write(file, data, size_bytes, written);
  }
  int sync(int) override { return fault("sync") ? error_ : 0; }
  void start_sync(int, uint64_t, uint64_t) noexcept override {}
  int close(int file) override {
    const bool fails = fault(was_written(file) ? "close" : "close_input");
    const int error = below_.close(file);  // as in the system: a failing close closes
    return fails ? error_ : error;
  }
  int open(const Path& path, Links links, int& file, uint64_t& size_bytes) override {
    return fault("open") ? error_ : below_.open(path, links, file, size_bytes);
  }
  int read(int file, uint64_t offset, void* data, size_t size_bytes, size_t& read) override {
    return fault("read") ? error_ : below_.read(file, offset, data, size_bytes, read);
  }
  int map(int file, uint64_t size_bytes, const std::byte*& data) override {
    return fault("map") ? error_ : below_.map(file, size_bytes, data);
  }
  void unmap(const std::byte* data, uint64_t size_bytes) noexcept override {
    below_.unmap(data, size_bytes);
  }
  int make_directory(const Path& path) override {
    return fault("make_directory") ? error_ : below_.make_directory(path);
  }
  int sync_directory(const Path&) override { return fault("sync_directory") ? error_ : 0; }
  int list(const Path& path, std::vector<std::string>& names) override {
    return fault("list") ? error_ : below_.list(path, names);
  }
  int rename(const Path& from, const Path& to) override {
    return fault("rename") ? error_ : below_.rename(from, to);
  }
  int exchange(const Path& a, const Path& b) override {
    return fault("exchange") ? error_ : below_.exchange(a, b);
  }
  int remove(const Path& path) override { return fault("remove") ? error_ : below_.remove(path); }

 private:
  bool fault(const std::string& kind) {
    const std::lock_guard lock(mutex_);
    record_.push_back(kind);
    if (!kinds_.empty() && !kinds_.contains(kind)) return false;
    const int64_t call = calls_++;
    const bool fails = fail_at_ && (call == *fail_at_ || (from_there_on_ && call > *fail_at_));
    failed_ = failed_ || fails;
    return fails;
  }

  // Asked once of each file.
  bool was_written(int file) {
    const std::lock_guard lock(mutex_);
    return written_.erase(file) == 1;
  }

  FileSystem& below_ = FileSystem::real();
  std::mutex mutex_;
  std::set<int> written_;  // open files
  std::optional<int64_t> fail_at_;
  int error_ = 0;
  std::set<std::string> kinds_;
  bool from_there_on_ = false, failed_ = false;
  int64_t calls_ = 0;
  std::vector<std::string> record_;
};

}  // namespace switchyard
