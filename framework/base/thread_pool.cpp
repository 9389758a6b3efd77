#include "base/thread_pool.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {

ThreadPool::ThreadPool(int threads, std::function<void()> on_start) {
  SWITCHYARD_CHECK(threads >= 1, "a team of ", threads);
  const int rank = current_rank();
  if (on_start) on_start();
  for (int index = 1; index < threads; ++index) {
    workers_.emplace_back([this, index, rank, on_start] {
      set_current_rank(rank);
      if (on_start) on_start();
      work(index);
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  if (workers_.empty() || count <= grain) {
    body(0, count);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    count_ = count;
    grain_ = grain;
    body_ = &body;
    error_ = nullptr;
    running_ = static_cast<int>(workers_.size());
    ++round_;
  }
  start_.notify_all();
  run_part(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::run_part(int index) {
  const int64_t grains = (count_ + grain_ - 1) / grain_;
  const int64_t begin = grains * index / size() * grain_;
  const int64_t end = std::min(count_, grains * (index + 1) / size() * grain_);
  if (begin >= end) return;
  try {
    (*body_)(begin, end);
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::work(int index) {
  uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
    }
    run_part(index);
    {
      std::lock_guard lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }
}

}  // namespace switchyard
