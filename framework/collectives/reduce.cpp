#include "collectives/reduce.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.h"

namespace switchyard {
namespace {

struct Sum {
  template <typename T>
  static T combine(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;  // wraps, where signed overflow is undefined
      return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  }
};

struct Max {
  template <typename T>
  static T combine(T a, T b) {
    return b > a || b != b ? b : a;  // b != b: a NaN is carried on, wherever it stands
  }
};

template <typename T, typename Op>
void reduce_as(std::span<const std::byte* const> sources, std::span<std::byte* const> targets,
               int64_t count) {
  constexpr int64_t kBlock = 1024;
  T result[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    std::copy_n(reinterpret_cast<const T*>(sources[0]) + begin, size, result);
    for (const std::byte* source : sources.subspan(1)) {
      const T* values = reinterpret_cast<const T*>(source) + begin;
      for (int64_t i = 0; i < size; ++i) result[i] = Op::combine(result[i], values[i]);
    }
    for (std::byte* target : targets) {
      std::copy_n(result, size, reinterpret_cast<T*>(target) + begin);
    }
  }
}

template <typename T>
void reduce_with(ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> targets, int64_t count) {
  if (op == ReduceOp::kSum) {
    reduce_as<T, Sum>(sources, targets, count);
  } else {
    reduce_as<T, Max>(sources, targets, count);
  }
}

}  // namespace

void reduce_in_rank_order(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                          std::span<std::byte* const> targets, int64_t count) {
  switch (dtype) {
    case DType::kFloat32:
      return reduce_with<float>(op, sources, targets, count);
    case DType::kFloat64:
      return reduce_with<double>(op, sources, targets, count);
    case DType::kInt64:
      return reduce_with<int64_t>(op, sources, targets, count);
    default:
      SWITCHYARD_CHECK(false, name_of(dtype), " is never reduced");
  }
}

}  // namespace switchyard
