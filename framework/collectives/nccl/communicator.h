// One of NCCL's communicators with a thread that looks after it: an error that NCCL finds by itself
// (a rank or a link that is gone) ends the operations under way, instead of leaving this rank to
// wait for ever.
#pragma once

#include <nccl.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace switchyard {

class NcclCommunicator {
 public:
  // Takes it over.
  explicit NcclCommunicator(ncclComm_t communicator);
  // Waits for the other ranks' destructors too, but not on the way out of an error.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  // Calls body(communicator), which starts operations, and throws RankError where the communicator
  // has failed.
  template <typename Body>
  void use(const Body& body) {
    const std::lock_guard lock(mutex_);
    check();
    body(communicator_);
  }
  // Throws RankError where the communicator has failed.
  void expect_intact() {
    const std::lock_guard lock(mutex_);
    check();
  }
  // Ends what is under way; later uses throw.
  void abort(const std::string& reason) noexcept;

 private:
  void watch();
  void fail(const std::string& reason) noexcept;
  void check() const;

  ncclComm_t communicator_;
  std::string failure_;  // empty: intact
  bool closing_ = false;
  std::mutex mutex_;  // of all above
  std::condition_variable closes_;
  std::thread watcher_;
};

}  // namespace switchyard
