// What one rank writes of its job's checkpoints: the same tensors into the same files each time,
// straight from where they lie, or from a copy while training goes on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/slice_gather.h"
#include "checkpoint/tensors.h"
#include "checkpoint/unfinished.h"

namespace switchyard {

// What is asked of a thread that writes from a copy, from moment to moment.
enum class WriterPace : uint8_t {
  kGiveWay,  // training goes on: rest as long as you work
  kHurry,    // somebody waits for it
  kGiveUp
};

class RankShare {
 public:
  // Lists as in CheckpointState; they and `groups` must outlive it. Every rank makes one.
  RankShare(const std::vector<const Weight*>& weights, const std::vector<OptimizerState>& optimizer,
            const Groups& groups);

  SafetensorsIndex index() const;   // of the whole model
  CheckpointLayout layout() const;  // of the job

  // Writes this rank's file of the part, if it has one, from the tensors as they are now. The ranks
  // that hold slices of the same experts put these together meanwhile: none may begin a part that
  // another won't. Where writing fails the others still get their slices.
  void write(const UnfinishedCheckpoint& checkpoint, TensorPart part, Manifest& manifest);

  // Takes the memory for the copy, so that the first copy is as fast as the next. Throws
  // std::bad_alloc.
  void reserve();
  // Copies what this rank writes of the part; ranks meet as in write(). After reserve().
  void copy(TensorPart part);
  // As write(), from the copy and without any other rank; on any thread.
  //   returns  false if it gave up
  bool write_copy(const UnfinishedCheckpoint& checkpoint, TensorPart part, Manifest& manifest,
                  const std::atomic<WriterPace>& pace) const;

 private:
  struct File {
    std::string name;  // empty: this rank writes nothing of the part
    HeaderBytes header;
    std::vector<const GlobalTensor*> tensors;              // in the order of the header
    std::vector<std::vector<const GlobalTensor*>> sliced;  // see SliceGather
    size_t copy_begin = 0, copy_bytes = 0;                 // of copy_
  };

  void name_files(TensorPart part);
  void plan_file(TensorPart part);
  HeaderBytes header_of(TensorPart part, int rank) const;
  void with_slices(const File& file, const std::function<void(SliceGather&)>& action);
  void read(const GlobalTensor& tensor, SliceGather& slices, const TakeBytes& take);

  static size_t index_of(TensorPart part) { return part == TensorPart::kModel ? 0 : 1; }

  Collectives& world_;
  Collectives& tensor_group_;
  int expert_ranks_;
  std::vector<GlobalTensor> tensors_;         // of the job
  std::vector<int> owners_;                   // the rank that writes each
  std::map<int, std::string> file_names_[2];  // by part and rank
  File files_[2];                             // of this rank, by part
  std::vector<std::byte> staging_;            // of device memory
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte[], Free> copy_;
};

}  // namespace switchyard
