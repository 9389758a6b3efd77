#include "safetensors/elements.h"

#include <bit>
#include <cstring>

#include "base/check.h"
#include "tensor/bfloat16.h"
#include "tensor/float16.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// Bits is what an element is stored as, Number what it means.
template <typename Number, typename Bits, typename To>
void convert(const std::byte* from, size_t count, To* to) {
  for (size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    if constexpr (std::is_same_v<Number, Bits>) {
      to[i] = static_cast<To>(bits);
    } else {
      to[i] = static_cast<To>(static_cast<float>(Number::of_bits(bits)));
    }
  }
}

// Returns false for a type that it doesn't know.
bool convert_to_float64(StoredType type, const std::byte* from, size_t count, double* to) {
  switch (type) {
    case StoredType::kF64:
      return convert<double, double>(from, count, to), true;
    case StoredType::kF32:
      return convert<float, float>(from, count, to), true;
    case StoredType::kBF16:
      return convert<BFloat16, uint16_t>(from, count, to), true;
    case StoredType::kF16:
      return convert<Float16, uint16_t>(from, count, to), true;
    case StoredType::kI64:
      return convert<int64_t, int64_t>(from, count, to), true;
    case StoredType::kU64:
      return convert<uint64_t, uint64_t>(from, count, to), true;
    case StoredType::kI32:
      return convert<int32_t, int32_t>(from, count, to), true;
    case StoredType::kU32:
      return convert<uint32_t, uint32_t>(from, count, to), true;
    case StoredType::kI16:
      return convert<int16_t, int16_t>(from, count, to), true;
    case StoredType::kU16:
      return convert<uint16_t, uint16_t>(from, count, to), true;
    case StoredType::kI8:
      return convert<int8_t, int8_t>(from, count, to), true;
    case StoredType::kU8:
    case StoredType::kBool:
      return convert<uint8_t, uint8_t>(from, count, to), true;
    default:
      return false;
  }
}

}  // namespace

bool fits_float32(StoredType type) {
  return type == StoredType::kF32 || type == StoredType::kBF16 || type == StoredType::kF16;
}

void to_float32(StoredType type, const std::byte* from, size_t count, float* to) {
  SWITCHYARD_CHECK(fits_float32(type), name_of(type));
  if (count == 0) return;
  if (type == StoredType::kF32) {
    std::memcpy(to, from, count * sizeof *to);
  } else if (type == StoredType::kBF16) {
    convert<BFloat16, uint16_t>(from, count, to);
  } else {
    convert<Float16, uint16_t>(from, count, to);
  }
}

bool is_number(StoredType type) { return convert_to_float64(type, nullptr, 0, nullptr); }

void to_float64(StoredType type, const std::byte* from, size_t count, double* to) {
  SWITCHYARD_CHECK(convert_to_float64(type, from, count, to), name_of(type));
}

}  // namespace switchyard
