// Checkpoints: a directory that holds a run's weights, optimizer state and position whole or, as
// long as it is being written, isn't a checkpoint at all. docs/reference/checkpoints.md has the
// format.
//
// runs/<name>/checkpoints/step-00001200/
//   model-00003-of-00008.safetensors, model.safetensors.index.json   weights
//   optimizer-00003-of-00008.safetensors                             state, `weight/state`
//   config.yaml, tokenizer.model
//   manifest.pb                                                      written last: the commit
//
// Tensors go by global names, experts by their global number, so that every layout reads what any
// other wrote.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/errors.h"
#include "checkpoint/manifest.h"
#include "collectives/groups.h"
#include "safetensors/file_system.h"
#include "tensor/optimizer_state.h"

namespace switchyard {

inline constexpr const char* kCheckpointTokenizer = "tokenizer.model";

// All that a checkpoint holds. Lists every weight of the model, in the same order on every rank,
// also a stacked expert weight of which this rank has no expert.
struct CheckpointState {
  int64_t step = 0;              // optimizer steps done
  int64_t tokens_seen = 0;       // target tokens trained on
  int64_t sampler_position = 0;  // global index of the next sample
  uint64_t seed = 0;
  std::string config_text;          // the resolved config, YAML
  Digest dataset_hash;              // all zero: none
  std::filesystem::path tokenizer;  // copied as kCheckpointTokenizer; empty: none
  std::vector<const Weight*> weights;
  std::vector<OptimizerState> optimizer;
};

struct SaveOptions {
  // Letters, digits, "._-": tells this run's unfinished directories from those of others. The same
  // for all processes of a run, also of a resumed one.
  std::string run_id;
  // Once the new checkpoint is whole, older ones beyond this many, the new one included, are
  // removed; 0 keeps all. Later steps (of a run resumed from an earlier one) are left alone.
  int64_t keep = 0;
  // Checkpoints whose step is a multiple of it are never removed; 0: none is spared.
  int64_t keep_every = 0;
  // Steps whose checkpoints are known to be damaged: they don't count as kept, and are left alone
  // until they are written anew.
  std::vector<int64_t> damaged = {};
};

// Writes directory/step-<step>, making the directory if need be, and returns its path. It appears
// whole or not at all; one of the same step is replaced. Every rank calls it with the same scalars
// and options; dense weights and replicas must be equal on the ranks that hold them.
// A failure on one rank reaches all: its own error there, the same with its rank on the others;
// earlier checkpoints are untouched then. Throws SpaceError, CheckpointError.
std::filesystem::path save_checkpoint(const std::filesystem::path& directory,
                                      const CheckpointState& state, const Groups& groups,
                                      const SaveOptions& options,
                                      FileSystem& files = FileSystem::real());

// A tensor to be written that nobody needs to hold in memory as a whole.
struct TensorSource {
  std::string name;  // global, as in a manifest
  TensorPart part = TensorPart::kModel;
  StoredType type = StoredType::kF32;
  std::vector<uint64_t> shape;
  // Hands out the tensor's bytes once, in order, in pieces of any size.
  std::function<void(const TakeBytes& take)> read;
};

struct CheckpointContents {
  int64_t step = 0;
  int64_t tokens_seen = 0;
  int64_t sampler_position = 0;
  uint64_t seed = 0;
  std::string config_text;
  Digest dataset_hash;              // all zero: none
  std::filesystem::path tokenizer;  // copied as kCheckpointTokenizer; empty: none
  std::vector<TensorSource> tensors;
};

// Writes a checkpoint from one process without a model, tensor by tensor: for what merges or
// converts checkpoints. It appears whole or not at all; what stands at `path` already is refused.
//   path            of the checkpoint itself; directories above it are made
//   max_file_bytes  of tensors in one file; a larger tensor has a file of its own
// Returns the path. Throws SpaceError, CheckpointError, and what the sources throw.
std::filesystem::path write_checkpoint(const std::filesystem::path& path,
                                       const CheckpointContents& contents, uint64_t max_file_bytes,
                                       FileSystem& files = FileSystem::real());

// A checkpoint that is whole but not what was asked for: of another model or run.
struct CheckpointMisfit : CheckpointError {
  using CheckpointError::CheckpointError;
};

struct LoadOptions {
  // Names of weights, experts by their global number, with '*' for any text: those that may be
  // missing in the checkpoint, only there, or of another shape or dtype. What the model has of them
  // then keeps its values, and one line says so.
  std::vector<std::string> partial;
};

class VerifiedFile;

// A checkpoint opened for reading. Hashes are checked while reading: no byte of a damaged piece
// comes out. Any number of threads may read.
class Checkpoint {
 public:
  // Reads and checks the manifest; any rank may call it by itself. Throws CheckpointError naming
  // the path, also for a directory that was never finished.
  static Checkpoint open(const std::filesystem::path& path, FileSystem& files = FileSystem::real());

  const std::filesystem::path& path() const { return path_; }
  const Manifest& manifest() const { return *manifest_; }
  FileSystem& files() const { return *files_; }

  // A whole file of it, "config.yaml". Throws CheckpointError.
  std::string read_file(const std::string& name) const;

  bool contains(const std::string& tensor) const { return places_.contains(tensor); }
  // Throws CheckpointError when there is no such tensor.
  const ManifestTensor& tensor(const std::string& name) const;
  // Hands out the bytes of a whole tensor as they are stored, in order, in pieces of any size,
  // however many slices it lies in. Throws CheckpointError naming file and tensor.
  void read_tensor(const std::string& name, const TakeBytes& take) const;
  // The same, all at once.
  std::vector<std::byte> read_tensor(const std::string& name) const;

  // Fills the weights and, if given, the optimizer's state, each rank what it holds, in any layout.
  // The checkpoint must hold exactly these tensors, of these shapes and dtypes (without
  // `optimizer`: of the model), but for what `options` allow; weights stored as bfloat16 or float16
  // are widened to float32 ones, exactly. Every rank calls it, listing all weights as in
  // CheckpointState; errors reach all as in save_checkpoint. After an error the values are
  // unspecified. Throws CheckpointError naming file and tensor, CheckpointMisfit on every rank
  // where the checkpoint holds other tensors, ConfigError for a pattern that no name is like.
  void load(const std::vector<Weight*>& weights, Collectives& world,
            const LoadOptions& options = {}) const;
  void load(const std::vector<Weight*>& weights, const std::vector<OptimizerState>& optimizer,
            Collectives& world) const;

 private:
  struct Headers;

  Checkpoint(std::filesystem::path path, Manifest manifest, FileSystem& files);
  void check_header_once(VerifiedFile& file, const std::string& name) const;

  std::filesystem::path path_;
  std::shared_ptr<const Manifest> manifest_;  // shared by copies: much, and never changed
  FileSystem* files_;
  std::unordered_map<std::string_view, size_t> places_;  // tensor to position in manifest_
  std::shared_ptr<Headers> headers_;
};

struct CheckpointEntry {
  int64_t step = 0;
  std::filesystem::path path;
};

// The finished checkpoints of a directory, by step; none if the directory doesn't exist.
// Throws CheckpointError when it can't be read.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& directory,
                                              FileSystem& files = FileSystem::real());
std::optional<CheckpointEntry> latest_checkpoint(const std::filesystem::path& directory,
                                                 FileSystem& files = FileSystem::real());

}  // namespace switchyard
