#include "data/token_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "fuzz/fuzz.h"

namespace switchyard::fuzz {
namespace {

// Reads all that can be read of a file with these bytes.
void read(std::string_view bytes) {
  const int file = memfd_create("tokens", 0);
  SWITCHYARD_CHECK(file >= 0);
  SWITCHYARD_CHECK(::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  accepts<InputError>([&] {
    const TokenFile tokens("/proc/self/fd/" + std::to_string(file));
    tokens.verify();
    std::vector<int32_t> ids;
    for (int64_t document = 0; document < tokens.document_count(); ++document) {
      const int64_t begin = tokens.document_begin(document);
      ids.resize(static_cast<size_t>(tokens.document_begin(document + 1) - begin));
      tokens.read(begin, ids);
      SWITCHYARD_CHECK(tokens.document_label(document) < tokens.label_count());
    }
  });
  ::close(file);
}

// Makes all hashes right, as a hostile writer would.
std::string sealed(std::string bytes) {
  TokenFileHeader header;
  if (bytes.size() < sizeof header) return bytes;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(header.magic, "SWTOKENS", sizeof header.magic);
  header.version = 1;
  const uint64_t rest = bytes.size() - sizeof header;
  if (header.tokens <= rest && header.id_bytes <= 4) {
    const uint64_t ids = (header.tokens * header.id_bytes + 7) / 8 * 8;
    if (ids <= rest) {
      const char* begin = bytes.data() + sizeof header;
      std::memcpy(header.ids_xxh3, digest_of(begin, ids).bytes.data(), 16);
      std::memcpy(header.index_xxh3, digest_of(begin + ids, rest - ids).bytes.data(), 16);
    }
  }
  const Digest digest = digest_of(&header, offsetof(TokenFileHeader, header_xxh3));
  std::memcpy(header.header_xxh3, digest.bytes.data(), 16);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

}  // namespace
}  // namespace switchyard::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard::fuzz;
  read(text_of(data, size));
  read(sealed(std::string(text_of(data, size))));
  return 0;
}
