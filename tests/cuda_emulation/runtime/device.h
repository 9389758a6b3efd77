// The emulated device of the process: one, however many numbers it answers to. Streams are queues
// that run only when somebody waits for them, in the order of the schedule: what the program didn't
// ask to be ordered isn't.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "block.h"
#include "cuda_runtime.h"
#include "schedule.h"

namespace cuda_emulation {

// A point in a stream, made by cudaEventRecord.
struct Point {
  cudaStream_t stream = nullptr;
  bool reached = false;
  char token = 0;
};

struct Operation {
  std::function<void()> run;
  std::shared_ptr<Point> awaited;  // not before it is reached
  char token = 0;
};

// What a stream's work runs on, besides the host's own stack.
struct StreamFibers {
  StreamFibers();
  FiberPool threads;  // of a block
  FiberPool worker;   // one, for ThreadSanitizer: a stream is no part of the host's thread
};

}  // namespace cuda_emulation

// NVIDIA's headers leave both for the runtime to define.
struct CUstream_st {
  std::deque<std::unique_ptr<cuda_emulation::Operation>> queue;
  bool follows_null_stream = true;
  std::unique_ptr<cuda_emulation::StreamFibers> fibers;
  char token = 0;  // see sanitizers.h: released by all that has run
};

struct CUevent_st {
  std::shared_ptr<cuda_emulation::Point> last;  // null until recorded
};

namespace cuda_emulation {

class Device {
 public:
  static Device& instance();
  std::recursive_mutex& lock() { return lock_; }
  void set_schedule(Schedule schedule) { schedule_ = schedule; }

  // Memory. `pinned` is the host's and may be used on both sides.
  void* allocate(size_t size_bytes, bool pinned);
  cudaError_t release(void* data, bool pinned);
  enum class Place : uint8_t { kPageable, kPinned, kDevice };
  // Where all these bytes lie; a device pointer whose bytes end beyond its allocation is an error.
  Place place_of(const void* data, size_t size_bytes, bool& too_long) const;
  bool holds(const void* pointer) const;
  size_t used_bytes() const { return used_bytes_; }

  cudaStream_t make_stream(bool follows_null_stream);
  void end_stream(cudaStream_t stream);
  // The null stream for the names that CUDA has for it.
  cudaStream_t stream_of(cudaStream_t stream) { return is_null(stream) ? &null_ : stream; }
  void enqueue(cudaStream_t stream, std::function<void()> work,
               std::shared_ptr<Point> awaited = nullptr);
  // Runs queues until the stream's is empty, the point is reached, or all are empty.
  void finish(cudaStream_t stream);
  void finish(const Point& point);
  void finish_all();
  // Runs one operation of the stream or of what it waits for, if there is any.
  void advance(cudaStream_t stream);

  // The outcome of a call. An error of a kernel is told by the next call that waits.
  cudaError_t fail(cudaError_t status, const std::string& report);
  cudaError_t take_error();
  std::string report;
  cudaError_t last_error = cudaSuccess;

  void run_kernel(const Kernel& kernel, CUstream_st& stream);
  static void worker_body();

 private:
  struct Allocation {
    size_t size_bytes;
    bool pinned;
  };

  Device();
  static bool is_null(cudaStream_t stream) {
    return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
  }
  CUstream_st& next_of(CUstream_st& wanted);
  void run_front(CUstream_st& stream);
  void perform();

  void run_until(CUstream_st& wanted, const std::function<bool()>& reached);
  // While the host runs, AddressSanitizer finds every access to the device's memory.
  void open_memory();
  void close_memory();

  std::recursive_mutex lock_;
  Schedule schedule_;
  std::map<uintptr_t, Allocation> allocations_;
  size_t used_bytes_ = 0;
  int opened_ = 0;
  CUstream_st null_;
  std::list<CUstream_st> streams_;
  std::vector<std::unique_ptr<StreamFibers>> spare_fibers_;
  CUstream_st* running_ = nullptr;
  std::unique_ptr<Operation> operation_;  // that runs
  cudaError_t pending_error_ = cudaSuccess;
};

}  // namespace cuda_emulation
