#include "backends/cpu/cpu_memory.h"

#include <cstdint>
#include <cstring>
#include <iterator>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace switchyard::cpu {

static constexpr size_t kLarge = size_t{1} << 18;

#if defined(__SSE2__)

static constexpr size_t kLine = 64, kPage = 4096;
// Read side by side: the processor fetches ahead within one page only, and a single stream of
// stores leaves half of the memory's speed unused.
static constexpr size_t kPages = 8;

// `to` is a multiple of kLine.
static void stream_line(std::byte* to, const std::byte* from) {
  __m128i parts[kLine / sizeof(__m128i)];
  std::memcpy(parts, from, kLine);
  for (size_t i = 0; i < std::size(parts); ++i) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, parts[i]);
  }
}

// Copies as much as makes whole blocks of pages, and returns how much that is.
static size_t stream_blocks(std::byte* to, const std::byte* from, size_t size_bytes) {
  constexpr size_t kBlock = kPages * kPage;
  size_t at = 0;
  for (; at + kBlock <= size_bytes; at += kBlock) {
    for (size_t line = at; line < at + kPage; line += kLine) {
      for (size_t page = 0; page < kBlock; page += kPage) {
        stream_line(to + line + page, from + line + page);
      }
    }
  }
  _mm_sfence();  // these stores reach other threads in no order of their own
  return at;
}

static void copy_large(std::byte* to, const std::byte* from, size_t size_bytes) {
  const size_t head = -reinterpret_cast<uintptr_t>(to) % kLine;
  std::memcpy(to, from, head);
  const size_t done = head + stream_blocks(to + head, from + head, size_bytes - head);
  std::memcpy(to + done, from + done, size_bytes - done);
}

#else

static void copy_large(std::byte* to, const std::byte* from, size_t size_bytes) {
  std::memcpy(to, from, size_bytes);
}

#endif

CpuMemory& CpuMemory::instance() {
  static CpuMemory memory;
  return memory;
}

void CpuMemory::copy_out(void* host, const void* source, size_t size_bytes) {
  if (size_bytes < kLarge) return HostMemory::copy_out(host, source, size_bytes);
  copy_large(static_cast<std::byte*>(host), static_cast<const std::byte*>(source), size_bytes);
}

}  // namespace switchyard::cpu
