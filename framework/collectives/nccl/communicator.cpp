#include "collectives/nccl/communicator.h"

#include <chrono>
#include <exception>

#include "base/check.h"
#include "base/errors.h"
#include "collectives/nccl/nccl_check.h"

namespace switchyard {

void internal::fail_nccl(const char* call, ncclResult_t result) {
  std::string reason = ncclGetErrorString(result);
  const char* detail = ncclGetLastError(nullptr);
  if (detail != nullptr && *detail != '\0') reason += std::string(": ") + detail;
  throw RankError("NCCL failed: " + reason,
                  std::string(call) + ", rank " + std::to_string(current_rank()));
}

namespace {

// How often a communicator is asked; far below the 10 s in which a failure must end the job.
constexpr std::chrono::milliseconds kWatchInterval{200};

}  // namespace

NcclCommunicator::NcclCommunicator(ncclComm_t communicator)
    : communicator_(communicator), watcher_([this] { watch(); }) {}

NcclCommunicator::~NcclCommunicator() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  closes_.notify_all();
  watcher_.join();
  if (!failure_.empty()) return;  // aborted, which freed it
  if (std::uncaught_exceptions() > 0) {
    ncclCommAbort(communicator_);
  } else {
    ncclCommDestroy(communicator_);
  }
}

void NcclCommunicator::watch() {
  std::unique_lock lock(mutex_);
  while (!closing_ && failure_.empty()) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
    if (asked != ncclSuccess) state = asked;
    if (state != ncclSuccess && state != ncclInProgress) {
      fail(std::string("NCCL failed: ") + ncclGetErrorString(state));
      return;
    }
    closes_.wait_for(lock, kWatchInterval, [this] { return closing_ || !failure_.empty(); });
  }
}

// With the mutex held. Aborting ends the kernels that wait for other ranks, and with them whoever
// waits for the stream.
void NcclCommunicator::fail(const std::string& reason) noexcept {
  if (!failure_.empty()) return;
  failure_ = reason;
  ncclCommAbort(communicator_);
}

void NcclCommunicator::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(mutex_);
  fail(reason);
}

void NcclCommunicator::check() const {
  if (!failure_.empty()) throw RankError(failure_, "rank " + std::to_string(current_rank()));
}

}  // namespace switchyard
