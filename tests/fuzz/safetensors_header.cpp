#include "safetensors/header.h"

#include "fuzz/fuzz.h"

namespace switchyard::fuzz {
namespace {

// What passes covers its file, and can be written and read again.
void check_header(const SafetensorsHeader& header, uint64_t file_bytes) {
  uint64_t at = header.data_begin;
  for (const StoredTensor& tensor : header.tensors) {
    SWITCHYARD_CHECK(tensor.begin == at && tensor.end >= at, tensor.name);
    SWITCHYARD_CHECK(stored_bytes(tensor.type, tensor.shape) == tensor.size_bytes(), tensor.name);
    at = tensor.end;
  }
  SWITCHYARD_CHECK(at == file_bytes, at, " of ", file_bytes);
  const HeaderBytes made = make_header(header.tensors, header.metadata, "made");
  const SafetensorsHeader again =
      parse_header(std::string_view(made.bytes).substr(8),
                   made.bytes.size() + file_bytes - header.data_begin, "made");
  SWITCHYARD_CHECK(again.tensors.size() == header.tensors.size(), again.tensors.size());
}

}  // namespace
}  // namespace switchyard::fuzz

// Once as a whole file, and once as two bytes that say how much data follows, then the text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  fuzz::accepts<CheckpointError>([&] {
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const uint64_t length = read_header_length({bytes, std::min<size_t>(8, size)}, size, "file");
    fuzz::check_header(parse_header(fuzz::text_of(data + 8, length), size, "file"), size);
  });
  if (size < 2) return 0;
  fuzz::accepts<CheckpointError>([&] {
    const std::string_view json = fuzz::text_of(data + 2, size - 2);
    const uint64_t file_bytes = 8 + json.size() + data[0] + 256 * data[1];
    fuzz::check_header(parse_header(json, file_bytes, "file"), file_bytes);
  });
  return 0;
}
