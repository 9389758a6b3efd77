// XXH3-128 digests of files and buffers: they detect damage, they are no protection against
// forgery.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace switchyard {

struct Digest {
  std::array<uint8_t, 16> bytes{};  // big-endian, XXH128's canonical form
  bool operator==(const Digest&) const = default;
  std::string hex() const;
};

Digest digest_of(const void* data, size_t size_bytes);
inline Digest digest_of(std::string_view text) { return digest_of(text.data(), text.size()); }

// Reads the whole file. Throws InputError naming it when it can't be read.
Digest digest_of_file(const std::filesystem::path& path);

// Feeds pieces one after the other; equal to digest_of over their concatenation.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void add(const void* data, size_t size_bytes);
  Digest digest() const;

 private:
  void* state_;
};

}  // namespace switchyard
