#include "base/hash.h"

#include <xxhash.h>

#include <cstring>
#include <fstream>
#include <new>
#include <vector>

#include "base/errors.h"

namespace switchyard {

static Digest canonical(XXH128_hash_t hash) {
  XXH128_canonical_t form;
  XXH128_canonicalFromHash(&form, hash);
  Digest digest;
  static_assert(sizeof form.digest == sizeof digest.bytes);
  std::memcpy(digest.bytes.data(), form.digest, sizeof form.digest);
  return digest;
}

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Digest digest_of(const void* data, size_t size_bytes) {
  return canonical(XXH3_128bits(data, size_bytes));
}

Digest digest_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError("cannot read the file", path.string());
  Hasher hasher;
  std::vector<char> buffer(size_t{1} << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) ||
         file.gcount() > 0) {
    hasher.add(buffer.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) throw InputError("reading the file failed", path.string());
  return hasher.digest();
}

Hasher::Hasher() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}

Hasher::~Hasher() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Hasher::add(const void* data, size_t size_bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), data, size_bytes);
}

Digest Hasher::digest() const {
  return canonical(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_)));
}

}  // namespace switchyard
