#include "checkpoint/manifest.h"

#include "fuzz/fuzz.h"

namespace switchyard::fuzz {
namespace {

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

// As a hostile writer would, who knows how the hash is made.
std::string sealed(std::string_view body) {
  const Digest digest = digest_of(body);
  return "\x0a" + varint(body.size()) + std::string(body) + "\x12\x10" +
         std::string(digest.bytes.begin(), digest.bytes.end());
}

void read(std::string_view bytes) {
  accepts<CheckpointError>([&] {
    const Manifest manifest = decode_manifest(bytes, "file");
    check_manifest(manifest, "file");
    // What was checked can be trusted: every tensor's bytes lie in a file that is known.
    for (const ManifestTensor& tensor : manifest.tensors) {
      uint64_t bytes_of_slices = 0;
      for (const TensorSlice& slice : tensor.slices) {
        const ManifestFile* file = manifest.file(slice.file);
        SWITCHYARD_CHECK(file != nullptr && slice.begin <= slice.end, tensor.name);
        SWITCHYARD_CHECK(slice.end <= file->size_bytes, tensor.name);
        bytes_of_slices += slice.end - slice.begin;
      }
      SWITCHYARD_CHECK(stored_bytes(tensor.type, tensor.shape) == bytes_of_slices, tensor.name);
    }
    const std::string again = encode_manifest(manifest);
    SWITCHYARD_CHECK(encode_manifest(decode_manifest(again, "made")) == again);
  });
}

}  // namespace
}  // namespace switchyard::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard::fuzz;
  read(text_of(data, size));
  read(sealed(text_of(data, size)));
  return 0;
}
