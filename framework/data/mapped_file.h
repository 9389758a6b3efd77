// A whole file read through a memory map. What lies in it is for the caller to distrust.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace switchyard {

class MappedFile {
 public:
  // Throws InputError naming the path when it isn't a readable regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_bytes_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace switchyard
