// Changes the element type of a tensor whose bytes come in pieces.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "safetensors/header.h"

namespace switchyard {

class ElementStream {
 public:
  // From float64, float32, bfloat16 or float16 to one of these. Narrower types are rounded to the
  // nearest, ties to even; what float32 holds becomes that exactly, NaNs bit by bit.
  //   name  of the tensor, for errors
  //   give  takes the new bytes, in order; whole elements at a time
  ElementStream(StoredType from, StoredType to, std::string name, TakeBytes give);

  // Throws CheckpointError for a number that is finite and too large for the new type.
  void add(std::span<const std::byte> bytes);
  // After the last piece. SWITCHYARD_CHECKs that no part of an element is left.
  void finish() const;

 private:
  void convert(const std::byte* elements, size_t count);

  StoredType from_, to_;
  std::string name_;
  TakeBytes give_;
  std::vector<std::byte> rest_;  // of an element whose other bytes are to come
  std::vector<double> numbers_;
  std::vector<std::byte> converted_;
};

}  // namespace switchyard
