#include "support/allocation_counter.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string_view>

namespace switchyard::test {
namespace {

constexpr int kMostFrames = 48, kTracesKept = 16;

struct Trace {
  std::array<void*, kMostFrames> frames;
  int count;
  size_t size_bytes;
};

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
std::array<Trace, kTracesKept> traces;
// What the counter itself takes isn't counted.
thread_local bool inside = false;

bool is_foreign(std::string_view object) {
  for (const std::string_view library : {"/libmpi", "/libopen-", "/libdnnl", "/libgomp", "/libpmix",
                                         "/libuc", "/mca_", "/libfabric"}) {
    if (object.find(library) != std::string_view::npos) return true;
  }
  return false;
}

void note(size_t size_bytes) {
  if (inside) return;
  inside = true;
  Trace trace{};
  trace.count = backtrace(trace.frames.data(), kMostFrames);
  trace.size_bytes = size_bytes;
  const bool foreign =
      std::any_of(trace.frames.begin(), trace.frames.begin() + trace.count, [](void* frame) {
        Dl_info info;
        return dladdr(frame, &info) != 0 && info.dli_fname != nullptr && is_foreign(info.dli_fname);
      });
  if (!foreign) {
    const int64_t number = allocations.fetch_add(1);
    if (number < kTracesKept) traces[static_cast<size_t>(number)] = trace;
  }
  inside = false;
}

std::string text_of(const void* frame) {
  std::ostringstream text;
  Dl_info info;
  if (dladdr(frame, &info) == 0) {
    text << frame;
    return text.str();
  }
  const char* object = std::strrchr(info.dli_fname, '/');
  text << (object ? object + 1 : info.dli_fname) << "+0x" << std::hex
       << reinterpret_cast<uintptr_t>(frame) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  if (info.dli_sname != nullptr) {
    int status = 0;
    char* name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    text << " " << (status == 0 ? name : info.dli_sname);
    std::free(name);
  }
  return text.str();
}

}  // namespace

// The hooks' only way in.
void note_allocation(size_t size_bytes) noexcept {
  if (counting.load(std::memory_order_relaxed)) note(size_bytes);
}

void begin_counting_allocations() {
  void* frame = nullptr;
  backtrace(&frame, 1);  // loads the unwinder, which takes memory
  allocations = 0;
  counting = true;
}

Allocations end_counting_allocations() {
  counting = false;
  Allocations result{.count = allocations, .first = {}};
  for (int64_t i = 0; i < std::min<int64_t>(result.count, kTracesKept); ++i) {
    const Trace& trace = traces[static_cast<size_t>(i)];
    result.first += std::to_string(trace.size_bytes) + " bytes\n";
    // The counter's own frames come first.
    for (int frame = 2; frame < trace.count; ++frame) {
      result.first += "  " + text_of(trace.frames[static_cast<size_t>(frame)]) + "\n";
    }
  }
  return result;
}

}  // namespace switchyard::test

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

namespace switchyard::test {
bool can_count_allocations() { return false; }
}  // namespace switchyard::test

#else

namespace switchyard::test {
bool can_count_allocations() { return true; }
}  // namespace switchyard::test

#pragma GCC visibility push(default)
extern "C" {
// glibc's own, under the names that it keeps for such purposes.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  switchyard::test::note_allocation(size);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  switchyard::test::note_allocation(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  switchyard::test::note_allocation(size);
  return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
  switchyard::test::note_allocation(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  switchyard::test::note_allocation(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  switchyard::test::note_allocation(size);
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}
#pragma GCC visibility pop

#endif
