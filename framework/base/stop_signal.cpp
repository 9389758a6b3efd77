#include "base/stop_signal.h"

#include <signal.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr int64_t kSameRequestNs = 1'000'000'000;

std::atomic<int> caught{0};
std::atomic<int64_t> caught_at_ns{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free,
              "a signal handler may not wait for a lock");

int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

// Only what POSIX allows in a handler.
void on_signal(int signal) {
  const int saved_errno = errno;
  const int64_t now = now_ns();
  if (caught.load() == 0) {
    caught_at_ns.store(now);
    caught.store(signal);
  } else if (now - caught_at_ns.load() > kSameRequestNs) {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(signal, &standard, nullptr);
    ::raise(signal);  // delivered when the handler returns
  }
  errno = saved_errno;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTERM}) {
    SWITCHYARD_CHECK(::sigaction(signal, &action, nullptr) == 0, "sigaction ", signal);
  }
}

int stop_signal() { return caught.load(); }

std::string_view signal_name(int signal) { return signal == SIGUSR1 ? "SIGUSR1" : "SIGTERM"; }

}  // namespace switchyard
