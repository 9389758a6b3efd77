#include "shared_memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "sanitizers.h"

namespace cuda_emulation {
namespace {

constexpr size_t kRegionBytes = size_t{256} << 20;  // mapped, not used
constexpr size_t kRoom = 64;                        // between arrays

}  // namespace

SharedMemory::SharedMemory() { map(); }

SharedMemory::~SharedMemory() {
  unpoison(region_, kRegionBytes);
  munmap(region_, kRegionBytes);
}

void SharedMemory::map() {
  if (region_ != nullptr) munmap(region_, kRegionBytes);
  void* region = mmap(nullptr, kRegionBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) std::abort();
  region_ = next_block_ = free_ = static_cast<std::byte*>(region);
  if (!kThreadSanitizer) poison(region_, kBlockBytes);
}

void SharedMemory::begin_launch() {
  if (next_block_ > region_ + kRegionBytes / 2) map();
}

void SharedMemory::begin_block(size_t dynamic_bytes) {
  if (kThreadSanitizer) {
    if (static_cast<size_t>(next_block_ - region_) + kBlockBytes > kRegionBytes) map();
  } else {
    poison(region_, static_cast<size_t>(free_ - region_));
    next_block_ = region_;
  }
  block_ = next_block_;
  tokens_ = block_;
  free_ = block_ + kTokens;
  static_bytes_ = arrays_used_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = static_cast<std::byte*>(take(dynamic_bytes));
}

void* SharedMemory::take(size_t size_bytes) {
  std::byte* data = free_;
  free_ += (size_bytes + kRoom + 127) / 128 * 128;
  next_block_ = free_;
  unpoison(data, size_bytes);
  fill_unseen(data, 0xFF, size_bytes);
  return data;
}

void* SharedMemory::array(const void* place, size_t size_bytes) {
  for (size_t i = 0; i < arrays_used_; ++i) {
    if (arrays_[i].place == place) return arrays_[i].data;
  }
  static_bytes_ += size_bytes;
  if (arrays_used_ == arrays_.size() || static_bytes_ > kStaticLimit ||
      static_bytes_ + dynamic_bytes_ > kLimit) {
    return nullptr;
  }
  arrays_[arrays_used_] = {place, take(size_bytes)};
  return arrays_[arrays_used_++].data;
}

}  // namespace cuda_emulation
