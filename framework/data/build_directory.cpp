#include "data/build_directory.h"

#include <system_error>
#include <utility>

#include "base/errors.h"
#include "data/dataset_listing.h"
#include "data/output_file.h"

namespace switchyard {

namespace fs = std::filesystem;

// Throws what a failed file operation on `path` means to a user.
[[noreturn]] static void fail(const char* action, const fs::path& path, std::error_code error) {
  const std::string what = std::string(action) + ": " + error.message();
  if (error == std::errc::no_space_on_device) {
    throw SpaceError(what, path.string(), "free some space and run the command again");
  }
  throw InputError(what, path.string());
}

static void check_target(const fs::path& target) {
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  if (!fs::exists(status)) return;
  const bool replaceable = fs::is_directory(status) &&
                           (fs::is_empty(target, error) || fs::exists(target / kListingFile));
  if (!replaceable) {
    throw ConfigError("the dataset's folder holds something else", target.string(),
                      "give a folder of its own as data.dir");
  }
}

BuildDirectory::BuildDirectory(fs::path target) : target_(std::move(target)) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "data/" is "data"
  check_target(target_);
  path_ = target_;
  path_ += ".building";
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) fail("cannot make the folder", path_, error);
  std::optional<DirectoryLock> lock = DirectoryLock::try_acquire(path_);
  if (!lock) {
    throw InputError("another process is building this dataset", path_.string(),
                     "wait for it to end");
  }
  lock_.emplace(std::move(*lock));
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
    fs::remove_all(entry.path(), error);
    if (error) fail("cannot clear the folder", path_, error);
  }
}

BuildDirectory::~BuildDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void BuildDirectory::commit() {
  sync_directory(path_);
  std::error_code error;
  // Without its listing what is left of the old one looks like no dataset.
  fs::remove(target_ / kListingFile, error);
  fs::remove_all(target_, error);
  if (error) fail("cannot replace the folder", target_, error);
  fs::rename(path_, target_, error);
  if (error) fail("cannot move the dataset to its place", target_, error);
  path_.clear();
  sync_directory(target_.has_parent_path() ? target_.parent_path() : fs::path("."));
}

}  // namespace switchyard
