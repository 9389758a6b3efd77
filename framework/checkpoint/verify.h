// Looks at every byte of a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "checkpoint/checkpoint.h"

namespace switchyard {

struct Damage {
  std::string file;
  std::string what;  // names the tensors that it is in
};

struct Verification {
  int64_t files = 0;
  uint64_t bytes = 0;  // of files that could be read, the manifest aside
  std::vector<Damage> damage;
  std::vector<std::string> strangers;  // names in the directory that the manifest doesn't know
};

// Reads all files once, shared out over the threads, and compares them with the hashes; then the
// headers, the index and the config's hash with the manifest. Goes on after damage.
Verification verify_checkpoint(const Checkpoint& checkpoint, ThreadPool& threads);

}  // namespace switchyard
