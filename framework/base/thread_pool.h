// A fixed team of threads that shares out a range. One team per rank: threaded ranks in one process
// each own one. The partition depends on the range and the team's size only, never on timing.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace switchyard {

class ThreadPool {
 public:
  // A team of `threads` (at least 1), the calling thread among them.
  //   on_start  run once on each thread, the caller too, before any work
  explicit ThreadPool(int threads, std::function<void()> on_start = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end) on contiguous parts of [0, count), each a multiple of `grain` but the
  // last, at most one a thread; returns when all are done. Rethrows the first exception of a body.
  // Only the thread that made the pool may call it, and a body must not call it again.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  void work(int index);
  void run_part(int index);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  uint64_t round_ = 0;
  int running_ = 0;
  bool stopping_ = false;
  int64_t count_ = 0, grain_ = 1;
  const std::function<void(int64_t, int64_t)>* body_ = nullptr;
  std::exception_ptr error_;
};

}  // namespace switchyard
