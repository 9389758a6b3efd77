#include "safetensors/element_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"
#include "safetensors/elements.h"
#include "tensor/bfloat16.h"
#include "tensor/float16.h"

namespace switchyard {

namespace {

constexpr size_t kElements = size_t{1} << 16;  // converted at a time

// Returns whether a finite number has become infinite.
template <typename To>
bool narrow(std::span<const double> numbers, std::byte* out) {
  bool overflows = false;
  for (const double number : numbers) {
    To value;
    if constexpr (std::is_same_v<To, double>) {
      value = number;
    } else if constexpr (std::is_same_v<To, float>) {
      value = static_cast<float>(number);
    } else {
      value = To(static_cast<float>(number));
    }
    if constexpr (!std::is_same_v<To, double>) {
      overflows |= std::isfinite(number) && !std::isfinite(static_cast<float>(value));
    }
    std::memcpy(out, &value, sizeof value);
    out += sizeof value;
  }
  return overflows;
}

bool narrow_to(StoredType type, std::span<const double> numbers, std::byte* out) {
  switch (type) {
    case StoredType::kF64:
      return narrow<double>(numbers, out);
    case StoredType::kF32:
      return narrow<float>(numbers, out);
    case StoredType::kBF16:
      return narrow<BFloat16>(numbers, out);
    default:
      return narrow<Float16>(numbers, out);
  }
}

bool is_float(StoredType type) { return fits_float32(type) || type == StoredType::kF64; }

}  // namespace

ElementStream::ElementStream(StoredType from, StoredType to, std::string name, TakeBytes give)
    : from_(from), to_(to), name_(std::move(name)), give_(std::move(give)) {
  SWITCHYARD_CHECK(is_float(from) && is_float(to), switchyard::name_of(from), " to ",
                   switchyard::name_of(to));
}

void ElementStream::add(std::span<const std::byte> bytes) {
  if (from_ == to_ && rest_.empty() && bytes.size() % element_bytes(from_) == 0) {
    give_(bytes);
    return;
  }
  const size_t size = element_bytes(from_);
  if (!rest_.empty()) {
    const size_t missing = std::min(size - rest_.size(), bytes.size());
    rest_.insert(rest_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(missing));
    bytes = bytes.subspan(missing);
    if (rest_.size() < size) return;
    convert(rest_.data(), 1);
    rest_.clear();
  }
  const size_t whole = bytes.size() / size;
  for (size_t at = 0; at < whole; at += kElements) {
    convert(bytes.data() + at * size, std::min(kElements, whole - at));
  }
  const auto left = bytes.subspan(whole * size);
  rest_.assign(left.begin(), left.end());
}

void ElementStream::convert(const std::byte* elements, size_t count) {
  if (from_ == to_) {
    give_({elements, count * element_bytes(from_)});
    return;
  }
  converted_.resize(count * element_bytes(to_));
  if (to_ == StoredType::kF32 && fits_float32(from_)) {
    to_float32(from_, elements, count, reinterpret_cast<float*>(converted_.data()));
    give_(converted_);
    return;
  }
  numbers_.resize(count);
  to_float64(from_, elements, count, numbers_.data());
  if (narrow_to(to_, numbers_, converted_.data())) {
    throw CheckpointError(fmt::format("tensor \"{}\" holds numbers that are too large for {}",
                                      name_, switchyard::name_of(to_)),
                          "", "use bfloat16 or float32");
  }
  give_(converted_);
}

void ElementStream::finish() const {
  SWITCHYARD_CHECK(rest_.empty(), name_, ": ", rest_.size(), " bytes of an element");
}

}  // namespace switchyard
