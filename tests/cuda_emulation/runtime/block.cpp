#include "block.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <sstream>

#include "sanitizers.h"

__thread uint3 threadIdx, blockIdx;
__thread uint3 blockDim, gridDim;

namespace cuda_emulation {

namespace {

std::string text_of(Where where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

}  // namespace

// Not inlined: a fiber may continue on another thread of the host than it began on.
[[gnu::noinline]] BlockRunner& BlockRunner::instance() {
  thread_local BlockRunner runner;
  return runner;
}

void BlockRunner::fiber_body() {
  for (;;) {
    BlockRunner& runner = instance();
    acquire(&runner.launched_);
    runner.kernel_->thread();
    release(&runner.done_);
    runner.current_->state = State::kReturned;
    runner.current_->fiber->suspend();
  }
}

std::string BlockRunner::run(const Kernel& kernel, FiberPool& fibers, Schedule& schedule) {
  kernel_ = &kernel;
  schedule_ = &schedule;
  error_.clear();
  const uint32_t count = kernel.block.x * kernel.block.y * kernel.block.z;
  fibers.reserve(count);
  threads_.assign(count, {});
  turns_.reserve(count);
  shared_.begin_launch();
  gridDim = {kernel.grid.x, kernel.grid.y, kernel.grid.z};
  blockDim = {kernel.block.x, kernel.block.y, kernel.block.z};
  for (const uint64_t number :
       order_of_blocks(uint64_t{kernel.grid.x} * kernel.grid.y * kernel.grid.z)) {
    const auto x = static_cast<uint32_t>(number % kernel.grid.x);
    const uint64_t rows = number / kernel.grid.x;
    run_block(kernel,
              {x, static_cast<uint32_t>(rows % kernel.grid.y),
               static_cast<uint32_t>(rows / kernel.grid.y)},
              fibers);
    if (!error_.empty()) {
      fibers.restart(&done_);
      break;
    }
  }
  acquire(&done_);
  return error_;
}

std::vector<uint64_t> BlockRunner::order_of_blocks(uint64_t count) {
  std::vector<uint64_t> order(count);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (schedule_->order() == Order::kDescending) {
    std::reverse(order.begin(), order.end());
  } else if (schedule_->order() != Order::kAscending) {
    for (uint64_t i = count; i > 1; --i) std::swap(order[i - 1], order[schedule_->random_below(i)]);
  }
  return order;
}

void BlockRunner::run_block(const Kernel& kernel, uint3 block, FiberPool& fibers) {
  const auto count = static_cast<uint32_t>(threads_.size());
  block_ = block;
  at_barrier_ = barriers_ = 0;
  turns_.clear();
  shared_.begin_block(kernel.dynamic_bytes);
  // A fiber is another thread in each block: two blocks that race don't meet on the same one.
  const uint32_t shift =
      kThreadSanitizer ? static_cast<uint32_t>(schedule_->random_below(count)) : 0;
  const bool down = schedule_->order() == Order::kDescending;
  for (uint32_t turn = 0; turn < count; ++turn) {
    const uint32_t number = down ? count - 1 - turn : turn;
    Thread& thread = threads_[number];
    thread = {};
    thread.number = number;
    thread.index = {number % kernel.block.x, number / kernel.block.x % kernel.block.y,
                    number / kernel.block.x / kernel.block.y};
    thread.fiber = &fibers[(number * 7 + shift) % count];
    thread.priority = schedule_->first_priority();
    make_ready(thread);
  }
  release(&launched_);
  while (!turns_.empty() && error_.empty()) {
    std::pop_heap(turns_.begin(), turns_.end(), std::greater<>());
    current_ = &threads_[turns_.back().thread];
    turns_.pop_back();
    threadIdx = current_->index;
    blockIdx = block_;
    current_->fiber->resume();
  }
  const bool all_returned = std::all_of(threads_.begin(), threads_.end(), [](const Thread& thread) {
    return thread.state == State::kReturned;
  });
  if (error_.empty() && !all_returned) {
    error_ = "deadlock" + place_of_block() + ": " + who_waits();
  }
}

void BlockRunner::make_ready(Thread& thread) {
  thread.state = State::kReady;
  turns_.push_back({schedule_->turn(thread.number, thread.priority), thread.number});
  std::push_heap(turns_.begin(), turns_.end(), std::greater<>());
}

void BlockRunner::wait(Thread& thread, State state, Where where) {
  thread.state = state;
  thread.where = where;
}

void BlockRunner::fail(const std::string& what) {
  error_ = what + place_of_block() + ": " + who_waits();
  current_->fiber->suspend();  // for good: the fibers start anew
  std::abort();
}

std::string BlockRunner::place_of_block() const {
  std::ostringstream text;
  text << " in block (" << block_.x << ", " << block_.y << ", " << block_.z << ")";
  return text.str();
}

// "32 threads returned, the first is 32; 32 threads waiting for the block at norm.cu:40, the first
// is 0"
std::string BlockRunner::who_waits() const {
  const auto activity = [&](const Thread& thread) -> std::string {
    switch (thread.state) {
      case State::kReady:
        return &thread == current_ ? "running" : "ready";
      case State::kReturned:
        return "returned";
      case State::kAtBarrier:
        return "waiting for the block at " + text_of(thread.where);
      case State::kInWarp:
        return "waiting for the warp at " + text_of(thread.where);
    }
    return "";
  };
  struct Group {
    uint32_t first, count = 0;
  };
  std::map<std::string, Group> groups;
  for (const Thread& thread : threads_) {
    ++groups.try_emplace(activity(thread), Group{thread.number}).first->second.count;
  }
  std::ostringstream text;
  for (const auto& [name, group] : groups) {
    text << (text.tellp() > 0 ? "; " : "") << group.count << " threads " << name
         << ", the first is " << group.first;
  }
  return text.str();
}

int BlockRunner::block_barrier(BlockOperation operation, int predicate, Where where) {
  Thread& thread = *current_;
  const unsigned phase = barriers_;
  thread.block_operation = operation;
  thread.predicate = predicate;
  wait(thread, State::kAtBarrier, where);
  release(shared_.barrier_token(phase));
  if (++at_barrier_ == threads_.size()) release_block();
  thread.fiber->suspend();
  acquire(shared_.barrier_token(phase));
  return static_cast<int>(thread.result);
}

void BlockRunner::release_block() {
  int count = 0;
  for (const Thread& thread : threads_) {
    if (thread.where.line() != threads_[0].where.line() ||
        thread.block_operation != threads_[0].block_operation) {
      fail("threads of one block at different barriers");
    }
    count += thread.predicate != 0;
  }
  const int all = static_cast<int>(threads_.size());
  const BlockOperation operation = threads_[0].block_operation;
  const int result = operation == BlockOperation::kAnd  ? count == all
                     : operation == BlockOperation::kOr ? count > 0
                                                        : count;
  at_barrier_ = 0;
  ++barriers_;
  const bool down = schedule_->order() == Order::kDescending;
  for (size_t i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[down ? threads_.size() - 1 - i : i];
    thread.result = static_cast<uint64_t>(result);
    make_ready(thread);
  }
}

uint64_t BlockRunner::warp_exchange(WarpOperation operation, unsigned mask, uint64_t value,
                                    int source, Where where) {
  Thread& thread = *current_;
  Thread* warp = &threads_[thread.number / 32 * 32];
  thread.warp_operation = operation;
  thread.mask = mask;
  thread.value = value;
  thread.source = source;
  wait(thread, State::kInWarp, where);
  check_lanes(thread, warp);
  // Only __syncwarp orders memory; shuffles and votes don't.
  const bool orders = operation == WarpOperation::kSync;
  if (orders) release(shared_.lane_token(thread.number, thread.syncs));
  if (all_wait(thread, warp)) release_warp(warp, mask);
  thread.fiber->suspend();
  for (uint32_t lane = 0; orders && lane < 32; ++lane) {
    if (mask >> lane & 1) {
      acquire(shared_.lane_token(warp[lane].number, thread.odd_lanes >> lane & 1));
    }
  }
  return thread.result;
}

// That the mask is what the language allows, as far as is known when this lane arrives.
void BlockRunner::check_lanes(const Thread& thread, Thread* warp) {
  const uint32_t own = thread.number % 32;
  const size_t lanes = std::min<size_t>(32, threads_.size() - (thread.number - own));
  if (!(thread.mask >> own & 1)) fail("a lane outside its own mask");
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(thread.mask >> lane & 1)) continue;
    if (lane >= lanes) fail("a mask with lanes that the block doesn't have");
    const Thread& other = warp[lane];
    if (other.state == State::kReturned) fail("a mask with lanes that have returned");
    if (other.state != State::kInWarp) continue;
    if (other.mask != thread.mask && (other.mask >> own & 1)) {
      fail("lanes of one warp with different masks");
    }
    if (other.mask == thread.mask && (other.warp_operation != thread.warp_operation ||
                                      other.where.line() != thread.where.line())) {
      fail("lanes of one warp in different operations");
    }
  }
  if (thread.warp_operation == WarpOperation::kShuffle &&
      (thread.source < 0 || thread.source > 31 || !(thread.mask >> thread.source & 1))) {
    fail("a shuffle from a lane outside the mask");
  }
}

bool BlockRunner::all_wait(const Thread& thread, const Thread* warp) const {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(thread.mask >> lane & 1)) continue;
    if (warp[lane].state != State::kInWarp || warp[lane].mask != thread.mask) return false;
  }
  return true;
}

namespace {

uint64_t combined(WarpOperation operation, uint64_t a, uint64_t b) {
  const auto x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b);
  switch (operation) {
    case WarpOperation::kAdd:
      return x + y;
    case WarpOperation::kMinSigned:
      return static_cast<uint32_t>(std::min(static_cast<int32_t>(x), static_cast<int32_t>(y)));
    case WarpOperation::kMaxSigned:
      return static_cast<uint32_t>(std::max(static_cast<int32_t>(x), static_cast<int32_t>(y)));
    case WarpOperation::kMinUnsigned:
      return std::min(x, y);
    case WarpOperation::kMaxUnsigned:
      return std::max(x, y);
    case WarpOperation::kAnd:
      return x & y;
    case WarpOperation::kOr:
      return x | y;
    case WarpOperation::kXor:
      return x ^ y;
    default:
      return 0;
  }
}

}  // namespace

void BlockRunner::release_warp(Thread* warp, unsigned mask) {
  const WarpOperation operation = current_->warp_operation;
  unsigned ballot = 0, odd_lanes = 0;
  bool first = true;
  uint64_t total = 0;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    ballot |= static_cast<unsigned>(warp[lane].value & 1) << lane;
    odd_lanes |= (warp[lane].syncs & 1) << lane;
    total = first ? warp[lane].value : combined(operation, total, warp[lane].value);
    first = false;
  }
  const bool down = schedule_->order() == Order::kDescending;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t lane = down ? 31 - i : i;
    if (!(mask >> lane & 1)) continue;
    Thread& thread = warp[lane];
    thread.result = total;
    if (operation == WarpOperation::kShuffle) thread.result = warp[thread.source].value;
    if (operation == WarpOperation::kBallot) thread.result = ballot;
    if (operation == WarpOperation::kMatchAny) {
      thread.result = 0;
      for (uint32_t other = 0; other < 32; ++other) {
        const bool equal = (mask >> other & 1) && warp[other].value == thread.value;
        thread.result |= uint64_t{equal} << other;
      }
    }
    if (operation == WarpOperation::kSync) {
      thread.odd_lanes = odd_lanes;
      ++thread.syncs;
    }
    make_ready(thread);
  }
}

void* BlockRunner::shared_array(const void* place, size_t size_bytes) {
  void* data = shared_.array(place, size_bytes);
  if (data == nullptr) fail("more shared memory than a block has");
  return data;
}

void* shared_array(const void* place, size_t size_bytes) {
  return BlockRunner::instance().shared_array(place, size_bytes);
}
void* dynamic_shared() { return BlockRunner::instance().dynamic_shared(); }
int block_barrier(BlockOperation operation, int predicate, Where where) {
  return BlockRunner::instance().block_barrier(operation, predicate, where);
}
uint64_t warp_exchange(WarpOperation operation, unsigned mask, uint64_t value, int source,
                       Where where) {
  return BlockRunner::instance().warp_exchange(operation, mask, value, source, where);
}
int lane() { return BlockRunner::instance().lane(); }

}  // namespace cuda_emulation
