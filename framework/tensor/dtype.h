// Element types. The host's type for bf16 is in bfloat16.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace switchyard {

enum class DType : uint8_t { kFloat32, kFloat64, kBFloat16, kInt32, kInt64, kUint8 };

size_t size_of(DType dtype);            // bytes an element
std::string_view name_of(DType dtype);  // "float32"
inline bool is_floating(DType dtype) { return dtype <= DType::kBFloat16; }

// The dtype in which sums, softmax, norms and routing are done for activations of `dtype`:
// float64 for float64, float32 otherwise.
inline DType accurate(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// DTypeOf<float>::value == DType::kFloat32, and so on.
template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kUint8;
};

}  // namespace switchyard
