// The header of a safetensors file: what lies where in it. Reading checks everything that the
// official implementation checks and more (docs: safetensors README "Format"); a file that passes
// is covered by its tensors without a hole, an overlap or a byte left over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace switchyard {

// Every element type of the format, in the official writer's order: widest first.
enum class StoredType : uint8_t {
  kU64,
  kI64,
  kF64,
  kC64,
  kF32,
  kU32,
  kI32,
  kBF16,
  kF16,
  kU16,
  kI16,
  kF8E5M2Fnuz,
  kF8E4M3Fnuz,
  kF8E8M0,
  kF8E4M3,
  kF8E5M2,
  kI8,
  kU8,
  kF6E3M2,
  kF6E2M3,
  kF4,
  kBool,
};

std::string_view name_of(StoredType type);  // "BF16"
int bits_of(StoredType type);
// Of one element. Not for types below 8 bits.
size_t element_bytes(StoredType type);
std::optional<StoredType> stored_type_named(std::string_view name);
StoredType stored_type(DType dtype);
// Empty for what the project doesn't compute with.
std::optional<DType> dtype_of(StoredType type);

// A tensor of a file.
struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes of the file

  uint64_t size_bytes() const { return end - begin; }
};
// Takes the next bytes of a tensor.
using TakeBytes = std::function<void(std::span<const std::byte>)>;
// Sizes of at most Shape::kMaxRank dimensions below 2^63.
Shape shape_of(const StoredTensor& tensor);
std::vector<uint64_t> stored_shape(const Shape& shape);

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;            // in the order of their bytes
  std::map<std::string, std::string> metadata;  // "__metadata__"
  uint64_t data_begin = 0;                      // where the first tensor's bytes start
  std::vector<std::string> warnings;            // the first unknown fields
};

// A header larger than this is refused.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

// The length of the JSON text behind the first 8 bytes, checked against the file's size.
// Throws CheckpointError naming `where`.
uint64_t read_header_length(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                            const std::string& where);

// Throws CheckpointError naming `where` and the tensor.
//   json        the read_header_length bytes after the first 8
//   file_bytes  size of the whole file
SafetensorsHeader parse_header(std::string_view json, uint64_t file_bytes,
                               const std::string& where);

// The beginning of a file (length and padded JSON) that holds these tensors, and their places.
// `begin` and `end` of the given tensors are ignored; they are ordered by type, widest first, then
// by name. "format": "pt" is added to the metadata, since Hugging Face refuses files without it.
// Throws CheckpointError for a header above the limit, a name twice or unfit.
struct HeaderBytes {
  std::string bytes;
  SafetensorsHeader header;
};
HeaderBytes make_header(std::vector<StoredTensor> tensors,
                        std::map<std::string, std::string> metadata, const std::string& where);

// Whether a tensor may bear the name: UTF-8 without control characters, not empty,
// not "__metadata__".
bool is_tensor_name(std::string_view name);

// Elements of the shape times the bits of the type, as whole bytes; empty when a product exceeds 64
// bits or bits are left over.
std::optional<uint64_t> stored_bytes(StoredType type, std::span<const uint64_t> shape);

}  // namespace switchyard
