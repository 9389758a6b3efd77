#include "checkpoint/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "safetensors/elements.h"

namespace switchyard {
namespace {

constexpr uint64_t kBlock = 1 << 14;  // elements

std::vector<uint64_t> index_of(uint64_t element, const std::vector<uint64_t>& shape) {
  std::vector<uint64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0; element /= shape[i]) index[i] = element % shape[i];
  return index;
}

// |a - b|, of 64-bit integers without rounding them first.
double distance(StoredType type_a, StoredType type_b, const std::byte* a, const std::byte* b,
                double number_a, double number_b) {
  if (type_a != StoredType::kI64 || type_b != StoredType::kI64) {
    return std::abs(number_a - number_b);
  }
  int64_t x = 0, y = 0;
  std::memcpy(&x, a, sizeof x);
  std::memcpy(&y, b, sizeof y);
  const auto up = static_cast<uint64_t>(x) - static_cast<uint64_t>(y);
  return static_cast<double>(x > y ? up : 0 - up);
}

TensorDifference compare(const ManifestTensor& tensor_a, const ManifestTensor& tensor_b,
                         const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  TensorDifference found{
      .name = tensor_a.name, .type_a = tensor_a.type, .type_b = tensor_b.type, .first = {}};
  const size_t size_a = element_bytes(found.type_a), size_b = element_bytes(found.type_b);
  const bool by_bits = found.type_a == found.type_b;
  found.elements = a.size() / size_a;
  std::vector<double> numbers_a(kBlock), numbers_b(kBlock);
  for (uint64_t begin = 0; begin < found.elements; begin += kBlock) {
    const uint64_t count = std::min(kBlock, found.elements - begin);
    const std::byte *from_a = a.data() + begin * size_a, *from_b = b.data() + begin * size_b;
    if (by_bits && std::memcmp(from_a, from_b, count * size_a) == 0) continue;
    to_float64(found.type_a, from_a, count, numbers_a.data());
    to_float64(found.type_b, from_b, count, numbers_b.data());
    for (uint64_t i = 0; i < count; ++i) {
      const std::byte *one_a = from_a + i * size_a, *one_b = from_b + i * size_b;
      if (by_bits ? std::memcmp(one_a, one_b, size_a) == 0 : numbers_a[i] == numbers_b[i]) continue;
      if (found.differing++ == 0) {
        found.first = index_of(begin + i, tensor_a.shape);
        found.first_a = numbers_a[i];
        found.first_b = numbers_b[i];
      }
      const double difference =
          distance(found.type_a, found.type_b, one_a, one_b, numbers_a[i], numbers_b[i]);
      // NaN, once there, stays.
      if (std::isnan(difference) || difference > found.largest) found.largest = difference;
    }
  }
  return found;
}

std::string text_of(const ManifestTensor& tensor) {
  return fmt::format("{} [{}]", name_of(tensor.type), fmt::join(tensor.shape, ", "));
}

}  // namespace

CheckpointDifference compare_checkpoints(const Checkpoint& a, const Checkpoint& b) {
  CheckpointDifference found;
  for (const ManifestTensor& tensor : b.manifest().tensors) {
    if (!a.contains(tensor.name)) found.only_b.push_back(tensor.name);
  }
  for (const ManifestTensor& tensor : a.manifest().tensors) {
    if (!b.contains(tensor.name)) {
      found.only_a.push_back(tensor.name);
      continue;
    }
    const ManifestTensor& other = b.tensor(tensor.name);
    if (other.shape != tensor.shape) {
      found.unlike.push_back(
          fmt::format("{}: {}, {}", tensor.name, text_of(tensor), text_of(other)));
      continue;
    }
    TensorDifference difference =
        compare(tensor, other, a.read_tensor(tensor.name), b.read_tensor(tensor.name));
    if (difference.differing > 0) {
      found.differing.push_back(std::move(difference));
    } else {
      ++found.equal;
      found.retyped += tensor.type != other.type;
    }
  }
  return found;
}

}  // namespace switchyard
