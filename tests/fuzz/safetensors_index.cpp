#include "fuzz/fuzz.h"
#include "safetensors/safetensors.h"

// No name in it leads out of its directory, and it reads the same once written.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  fuzz::accepts<CheckpointError>([&] {
    const SafetensorsIndex index = parse_index(fuzz::text_of(data, size), "file");
    for (const auto& [tensor, file] : index.file_of) {
      SWITCHYARD_CHECK(file.find('/') == file.npos && !file.starts_with('.'), file);
    }
    SWITCHYARD_CHECK(parse_index(index_text(index), "made").file_of == index.file_of);
  });
  return 0;
}
