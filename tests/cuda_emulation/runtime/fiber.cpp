#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "sanitizers.h"

#ifndef __x86_64__
#error "the switch between fibers is written for x86-64"
#endif

// Saves what a called function must keep on the current stack, and continues on another.
extern "C" void cuda_emulation_switch_stack(void** save, void* load);
asm(R"(
.text
.globl cuda_emulation_switch_stack
.type cuda_emulation_switch_stack, @function
cuda_emulation_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulation_switch_stack, . - cuda_emulation_switch_stack
)");

namespace cuda_emulation {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kSlotBytes = Fiber::kStackBytes + kGuardBytes;

__thread Fiber* resumed = nullptr;  // last, by this thread of the host

}  // namespace

Fiber::~Fiber() { end_execution(execution_); }

void Fiber::prepare(std::byte* stack, void (*body)()) {
  stack_ = stack;
  body_ = body;
  unpoison(stack, kStackBytes);  // of frames that never returned
  end_execution(execution_);
  execution_ = make_execution();
  // As if cuda_emulation_switch_stack had been called at the start of enter(): six registers and
  // the address to return to, above which the stack is aligned as at a function's entry.
  auto* top = reinterpret_cast<uintptr_t*>(stack + kStackBytes - 64);
  *--top = 0;
  *--top = reinterpret_cast<uintptr_t>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--top = 0;
  stack_pointer_ = top;
}

void Fiber::enter() {
  resumed->arrived(nullptr);
  resumed->body_();
}

void Fiber::arrived([[maybe_unused]] void* fake_stack) {
#ifdef CUDA_EMULATION_ADDRESS
  __sanitizer_finish_switch_fiber(fake_stack, &caller_stack_, &caller_stack_bytes_);
#endif
}

void Fiber::resume() {
  resumed = this;
  caller_execution_ = current_execution();
  switch_execution(execution_);
#ifdef CUDA_EMULATION_ADDRESS
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
  cuda_emulation_switch_stack(&caller_stack_pointer_, stack_pointer_);
#ifdef CUDA_EMULATION_ADDRESS
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
  void* fake_stack = nullptr;
  switch_execution(caller_execution_);
#ifdef CUDA_EMULATION_ADDRESS
  __sanitizer_start_switch_fiber(&fake_stack, caller_stack_, caller_stack_bytes_);
#endif
  cuda_emulation_switch_stack(&stack_pointer_, caller_stack_pointer_);
  arrived(fake_stack);
}

FiberPool::~FiberPool() {
  fibers_.clear();
  for (std::byte* chunk : chunks_) munmap(chunk, kChunk * kSlotBytes);
}

std::byte* FiberPool::stack_of(size_t i) const {
  return chunks_[i / kChunk] + i % kChunk * kSlotBytes + kGuardBytes;
}

void FiberPool::reserve(size_t count) {
  while (fibers_.size() < count) {
    const size_t next = fibers_.size();
    if (next == chunks_.size() * kChunk) {
      void* chunk = mmap(nullptr, kChunk * kSlotBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (chunk == MAP_FAILED) std::abort();
      chunks_.push_back(static_cast<std::byte*>(chunk));
    }
    if (mprotect(stack_of(next) - kGuardBytes, kGuardBytes, PROT_NONE) != 0) std::abort();
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->prepare(stack_of(next), body_);
  }
}

void Fiber::release_as_fiber(void* token) {
  void* const caller = current_execution();
  switch_execution(execution_);
  release(token);
  switch_execution(caller);
}

void FiberPool::restart(void* token) {
  for (size_t i = 0; i < fibers_.size(); ++i) {
    fibers_[i]->release_as_fiber(token);
    fibers_[i]->prepare(stack_of(i), body_);
  }
}

}  // namespace cuda_emulation
