#include "tensor/tensor.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <ostream>

#include "tensor/arena.h"
#include "tensor/memory_use.h"

namespace switchyard {

size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kBFloat16:
      return 2;
    case DType::kUint8:
      return 1;
  }
  return 0;
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kUint8:
      return "uint8";
  }
  return "?";
}

std::string Shape::text() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.text(); }

TensorView TensorView::reshape(const Shape& shape) const {
  SWITCHYARD_CHECK(shape.elements() == shape_.elements(), shape_, " as ", shape);
  return TensorView(data_, dtype_, shape);
}

TensorView TensorView::rows(int64_t begin, int64_t end) const {
  SWITCHYARD_CHECK(shape_.rank() >= 1 && begin >= 0 && begin <= end && end <= shape_[0], "rows ",
                   begin, "..", end, " of ", shape_);
  Shape part = shape_;
  part.set(0, end - begin);
  const int64_t row = shape_[0] == 0 ? 0 : shape_.elements() / shape_[0];
  return TensorView(static_cast<std::byte*>(data_) + begin * row * size_of(dtype_), dtype_, part);
}

void* HostMemory::allocate(size_t size_bytes) {
  const size_t rounded = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = std::aligned_alloc(kAlignment, rounded ? rounded : kAlignment);
  if (data == nullptr) {
    throw SpaceError("out of memory: could not allocate " + std::to_string(size_bytes) + " bytes",
                     "", "use a smaller model or batch, or more ranks");
  }
  return data;
}

void HostMemory::release(void* data) noexcept { std::free(data); }

void HostMemory::copy_in(void* target, const void* host, size_t size_bytes) {
  if (size_bytes > 0) std::memcpy(target, host, size_bytes);
}

void HostMemory::copy_out(void* host, const void* source, size_t size_bytes) {
  if (size_bytes > 0) std::memcpy(host, source, size_bytes);
}

HostMemory& HostMemory::instance() {
  static HostMemory memory;
  return memory;
}

Tensor::Tensor(DType dtype, const Shape& shape, Memory& memory)
    : view_(memory.allocate(static_cast<size_t>(shape.elements()) * size_of(dtype)), dtype, shape),
      memory_(&memory) {}

Tensor::~Tensor() {
  if (memory_) memory_->release(view_.raw());
}

Tensor::Tensor(Tensor&& other) noexcept
    : view_(std::exchange(other.view_, {})), memory_(std::exchange(other.memory_, nullptr)) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(view_, other.view_);
  std::swap(memory_, other.memory_);
  return *this;
}

Arena::Arena(Memory& memory, size_t initial_bytes) : memory_(memory) {
  if (initial_bytes > 0) add_block(initial_bytes);
}

Arena::~Arena() {
  for (const Block& block : blocks_) memory_.release(block.data);
}

TensorView Arena::allocate(DType dtype, const Shape& shape) {
  const size_t wanted = static_cast<size_t>(shape.elements()) * size_of(dtype);
  const size_t size = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  while (current_ < blocks_.size() && used_in_block_ + size > blocks_[current_].size) {
    ++current_;
    used_in_block_ = 0;
  }
  if (current_ == blocks_.size()) add_block(std::max(size, capacity_bytes() / 2));
  void* data = static_cast<std::byte*>(blocks_[current_].data) + used_in_block_;
  used_in_block_ += size;
  high_water_ = std::max(high_water_, used_bytes());
  return TensorView(data, dtype, shape);
}

void Arena::release(Mark mark) {
  SWITCHYARD_CHECK(mark.block <= current_, "a mark of memory that was released already");
  current_ = mark.block;
  used_in_block_ = mark.used;
  // One block from now on: what was needed once is needed every step.
  if (current_ == 0 && used_in_block_ == 0 && blocks_.size() > 1) {
    const size_t total = capacity_bytes();
    for (const Block& block : blocks_) memory_.release(block.data);
    blocks_.clear();
    add_block(total);
  }
}

size_t Arena::used_bytes() const {
  size_t used = used_in_block_;
  for (size_t i = 0; i < current_ && i < blocks_.size(); ++i) used += blocks_[i].size;
  return used;
}

size_t Arena::capacity_bytes() const {
  size_t total = 0;
  for (const Block& block : blocks_) total += block.size;
  return total;
}

void Arena::add_block(size_t size_bytes) {
  const MemoryUseScope scope(memory_, "activations and scratch");
  blocks_.push_back({memory_.allocate(size_bytes), size_bytes});
}

}  // namespace switchyard
