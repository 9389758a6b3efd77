#include "device.h"

#include <cstdio>
#include <cstdlib>

#include "sanitizers.h"

namespace cuda_emulation {

Device& Device::instance() {
  static Device device;
  return device;
}

// The worker is made now, for what the host does until it first runs isn't ordered with it.
StreamFibers::StreamFibers() : threads(BlockRunner::fiber_body), worker(Device::worker_body) {
  if (kThreadSanitizer) worker.reserve(1);
}

Device::Device() { null_.fibers = std::make_unique<StreamFibers>(); }

void* Device::allocate(size_t size_bytes, bool pinned) {
  constexpr size_t kDeviceAlignment = 256;
  // Not rounded up: the byte behind the last one belongs to nobody.
  void* data = nullptr;
  if (posix_memalign(&data, kDeviceAlignment, size_bytes) != 0) {
    return nullptr;
  }
  fill_unseen(data, 0xFF, size_bytes);
  allocations_[reinterpret_cast<uintptr_t>(data)] = {size_bytes, pinned};
  if (!pinned) {
    used_bytes_ += size_bytes;
    if (opened_ == 0) poison(data, size_bytes);
  }
  return data;
}

cudaError_t Device::release(void* data, bool pinned) {
  if (data == nullptr) return cudaSuccess;
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(data));
  if (found == allocations_.end() || found->second.pinned != pinned) {
    return fail(cudaErrorInvalidValue, "freed what is no allocation of this kind");
  }
  finish_all();
  unpoison(data, found->second.size_bytes);
  if (!pinned) used_bytes_ -= found->second.size_bytes;
  allocations_.erase(found);
  std::free(data);
  return take_error();
}

Device::Place Device::place_of(const void* data, size_t size_bytes, bool& too_long) const {
  const auto address = reinterpret_cast<uintptr_t>(data);
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return Place::kPageable;
  const auto& [start, allocation] = *--next;
  if (address > start + allocation.size_bytes ||
      (address == start + allocation.size_bytes && allocation.size_bytes > 0)) {
    return Place::kPageable;
  }
  too_long = address + size_bytes > start + allocation.size_bytes;
  return allocation.pinned ? Place::kPinned : Place::kDevice;
}

bool Device::holds(const void* pointer) const {
  if (pointer == nullptr) return true;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return false;
  const auto& [start, allocation] = *--next;
  return address <= start + allocation.size_bytes;  // the end too: of no elements
}

void Device::open_memory() {
  if (opened_++ > 0) return;
  for (const auto& [start, allocation] : allocations_) {
    if (!allocation.pinned) unpoison(reinterpret_cast<void*>(start), allocation.size_bytes);
  }
}

void Device::close_memory() {
  if (--opened_ > 0) return;
  for (const auto& [start, allocation] : allocations_) {
    if (!allocation.pinned) poison(reinterpret_cast<void*>(start), allocation.size_bytes);
  }
}

cudaStream_t Device::make_stream(bool follows_null_stream) {
  CUstream_st& stream = streams_.emplace_back();
  stream.follows_null_stream = follows_null_stream;
  if (spare_fibers_.empty()) {
    stream.fibers = std::make_unique<StreamFibers>();
  } else {
    stream.fibers = std::move(spare_fibers_.back());
    spare_fibers_.pop_back();
  }
  return &stream;
}

void Device::end_stream(cudaStream_t stream) {
  finish(stream);
  spare_fibers_.push_back(std::move(stream->fibers));
  streams_.remove_if([&](const CUstream_st& other) { return &other == stream; });
}

void Device::enqueue(cudaStream_t stream, std::function<void()> work,
                     std::shared_ptr<Point> awaited) {
  stream = stream_of(stream);
  auto operation = std::make_unique<Operation>();
  operation->run = std::move(work);
  operation->awaited = std::move(awaited);
  cuda_emulation::release(&operation->token);
  if (stream != &null_) {
    stream->queue.push_back(std::move(operation));
    return;
  }
  // The null stream comes after all that was enqueued on the streams that follow it, and before all
  // that will be.
  for (CUstream_st& other : streams_) {
    if (other.follows_null_stream) run_until(other, [&] { return other.queue.empty(); });
  }
  null_.queue.push_back(std::move(operation));
  run_until(null_, [&] { return null_.queue.empty(); });
}

void Device::finish(cudaStream_t stream) {
  CUstream_st& wanted = *stream_of(stream);
  run_until(wanted, [&] { return wanted.queue.empty(); });
  acquire(&wanted.token);
}

void Device::finish(const Point& point) {
  run_until(*point.stream, [&] { return point.reached; });
  acquire(const_cast<char*>(&point.token));
}

void Device::finish_all() {
  for (CUstream_st& stream : streams_) finish(&stream);
  finish(nullptr);
}

void Device::advance(cudaStream_t stream) {
  CUstream_st& wanted = *stream_of(stream);
  const size_t before = wanted.queue.size();
  bool moved = before == 0;
  run_until(wanted, [&] { return std::exchange(moved, true); });
}

void Device::run_until(CUstream_st& wanted, const std::function<bool()>& reached) {
  open_memory();
  while (!reached() && !wanted.queue.empty()) run_front(next_of(wanted));
  close_memory();
}

// The laziest choice runs nothing but what is waited for; the others run other streams meanwhile.
CUstream_st& Device::next_of(CUstream_st& wanted) {
  const auto is_ready = [](const CUstream_st& stream) {
    return !stream.queue.empty() &&
           (!stream.queue.front()->awaited || stream.queue.front()->awaited->reached);
  };
  if (schedule_.order() == Order::kAscending) {
    CUstream_st* next = &wanted;
    while (!is_ready(*next)) next = next->queue.front()->awaited->stream;
    return *next;
  }
  std::vector<CUstream_st*> ready;
  for (CUstream_st& stream : streams_) {
    if (is_ready(stream) && &stream != &wanted) ready.push_back(&stream);
  }
  if (is_ready(wanted)) ready.push_back(&wanted);
  const size_t choice =
      schedule_.order() == Order::kDescending ? 0 : schedule_.random_below(ready.size());
  return *ready[choice];
}

void Device::run_front(CUstream_st& stream) {
  running_ = &stream;
  operation_ = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (kThreadSanitizer) {
    stream.fibers->worker[0].resume();
  } else {
    perform();
  }
}

void Device::worker_body() {
  for (;;) {
    instance().perform();
    instance().running_->fibers->worker[0].suspend();
  }
}

// The operation, and what it is ordered with.
void Device::perform() {
  CUstream_st& stream = *running_;
  acquire(&operation_->token);
  if (operation_->awaited) acquire(&operation_->awaited->token);
  if (&stream == &null_) {
    for (CUstream_st& other : streams_) {
      if (other.follows_null_stream) acquire(&other.token);
    }
  } else if (stream.follows_null_stream) {
    acquire(&null_.token);
  }
  if (operation_->run) operation_->run();
  operation_.reset();
  cuda_emulation::release(&stream.token);
}

void Device::run_kernel(const Kernel& kernel, CUstream_st& stream) {
  if (pending_error_ != cudaSuccess) return;  // the device is lost until the error is told
  const std::string error = BlockRunner::instance().run(kernel, stream.fibers->threads, schedule_);
  if (error.empty()) return;
  pending_error_ = fail(cudaErrorLaunchFailure, error);
}

cudaError_t Device::fail(cudaError_t status, const std::string& what) {
  report = "CUDA emulation: " + what;
  std::fprintf(stderr, "%s\n", report.c_str());
  last_error = status;
  return status;
}

cudaError_t Device::take_error() { return std::exchange(pending_error_, cudaSuccess); }

}  // namespace cuda_emulation
