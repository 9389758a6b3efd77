// A checkpoint of 64 KiB, all its files counted: no bit of it can change and no byte of it can be
// missing without the reader naming the file, and the tensor; and wherever its writing breaks off,
// the one before or this one is whole.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/errors.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "collectives/single.h"
#include "support/memory_file_system.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

constexpr size_t kBytes = 65'536;
const Path kRun = "/run", kTokenizer = "/tokenizer";

// Under the sanitizers a sample must do.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kEvery = 499;
#else
constexpr size_t kEvery = 1;
#endif

// A table and two experts, with a state each.
class PurposeBuilt {
 public:
  PurposeBuilt() : world_(make_single_collectives()), groups_(make_groups(*world_, 1)) {
    add("shared.weight", WeightRole::kEmbedding, {64, 64});
    add("encoder.block.1.moe.expert.*.wi", WeightRole::kExpert, {2, 36, 32});
    fill(1);
  }

  // Values as after that step.
  void fill(int64_t step) {
    for_each([step](float& value, int64_t i) { value = value_of(i, step); });
  }
  bool holds(int64_t step) {
    bool all = true;
    for_each([&](float& value, int64_t i) { all = all && value == value_of(i, step); });
    return all;
  }

  //   config_bytes  of a comment in its config
  Path save(FileSystem& files, size_t config_bytes, int64_t step = 1, int64_t keep = 0) const {
    CheckpointState state{
        .step = step, .tokens_seen = 1000 * step, .sampler_position = 8 * step, .seed = 3};
    state.config_text = "name: purpose_built\n#" + std::string(config_bytes, '-') + "\n";
    state.dataset_hash = digest_of("dataset");
    state.tokenizer = kTokenizer;
    for (const auto& weight : weights_) state.weights.push_back(weight.get());
    state.optimizer = states_;
    return save_checkpoint(kRun, state, groups_, {.run_id = "test", .keep = keep}, files);
  }

  void load(const Checkpoint& checkpoint) const {
    std::vector<Weight*> all;
    for (const auto& weight : weights_) all.push_back(weight.get());
    checkpoint.load(all, states_, *world_);
  }

 private:
  void add(const std::string& name, WeightRole role, const Shape& shape) {
    const ExpertRange experts =
        role == WeightRole::kExpert ? ExpertRange{0, shape[0], shape[0]} : ExpertRange{};
    weights_.push_back(std::make_unique<Weight>(name, role, DType::kFloat32, shape,
                                                HostMemory::instance(), experts));
    tensors_.emplace_back(DType::kFloat32, shape);
    states_.push_back({"momentum", weights_.back().get(), tensors_.back()});
  }
  static float value_of(int64_t i, int64_t step) {
    return static_cast<float>((i + step) * 2654435761 % 1000);
  }
  template <typename Visit>
  void for_each(Visit&& visit) {
    const auto each = [&](TensorView view) {
      for (int64_t i = 0; i < view.elements(); ++i) visit(view.data<float>()[i], i);
    };
    for (const auto& weight : weights_) each(weight->master());
    for (const OptimizerState& state : states_) each(state.value);
  }

  std::unique_ptr<Collectives> world_;
  Groups groups_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<Tensor> tensors_;
  std::vector<OptimizerState> states_;
};

size_t total_bytes(const Path& path, MemoryFileSystem& files) {
  std::vector<std::string> names;
  files.list(path, names);
  size_t total = 0;
  for (const std::string& name : names) total += files.bytes(path / name).size();
  return total;
}

class FlippedBits : public testing::Test {
 protected:
  // A comment in its config makes it as long as it is to be.
  FlippedBits() {
    const PurposeBuilt built;
    // Sizes in the manifest change with it too: the second or third attempt fits.
    for (int attempt = 0; attempt < 5 && total_ != kBytes; ++attempt) {
      if (attempt > 0) comment_ = comment_ + kBytes - total_;
      files_ = std::make_unique<MemoryFileSystem>();
      FileOutput tokenizer(*files_, kTokenizer);
      tokenizer.write(std::string(3000, 't'));
      tokenizer.finish();
      path_ = built.save(*files_, comment_);
      total_ = total_bytes(path_, *files_);
    }
    const Manifest manifest = Checkpoint::open(path_, *files_).manifest();
    std::vector<std::string> names;
    files_->list(path_, names);
    for (const std::string& name : names) {
      tensors_[name].resize(files_->bytes(path_ / name).size());
    }
    for (const ManifestTensor& tensor : manifest.tensors) {
      for (const TensorSlice& slice : tensor.slices) {
        for (uint64_t at = slice.begin; at < slice.end; ++at) {
          tensors_[slice.file][at] = "\"" + tensor.name + "\"";
        }
      }
    }
  }

  // Of loading what `files` hold, on any thread: empty if it is refused as it should be.
  //   whole       opened before the damage: taken where that isn't in the manifest, to save time
  //   file, byte  where the damage is
  std::string complaint(const PurposeBuilt& model, const Checkpoint& whole, FileSystem& files,
                        const std::string& file, size_t byte) const {
    try {
      model.load(file == kManifestName ? Checkpoint::open(path_, files) : whole);
    } catch (const CheckpointError& error) {
      if (error.where() != (path_ / file).string()) return error.what();
      const std::string& tensor = tensors_.at(file)[byte];
      return error.summary().find(tensor) != std::string::npos ? "" : error.what();
    }
    return "accepted";
  }

  // Calls check(model, files of its own, first, step) on a thread for each core, which is to look
  // at first, first + step, ...; expects no complaint.
  template <typename Check>
  void on_all_cores(Check&& check) {
    const size_t count = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::string> complaints(count);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] {
        const PurposeBuilt model;
        MemoryFileSystem files(*files_);
        complaints[i] = check(model, files, i, count);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& one : complaints) EXPECT_EQ(one, "");
  }

  std::unique_ptr<MemoryFileSystem> files_;
  Path path_;
  size_t total_ = 0, comment_ = 0;
  // By file: the tensor that each byte is of; empty if of none.
  std::map<std::string, std::vector<std::string>> tensors_;
};

TEST_F(FlippedBits, EachOneIsRefusedByTheNamesOfFileAndTensor) {
  ASSERT_EQ(total_, kBytes);
  ASSERT_EQ(tensors_.size(), 6u);  // manifest, config, index, tokenizer, weights, optimizer
  std::atomic<size_t> flips = 0;
  on_all_cores([&](const PurposeBuilt& model, MemoryFileSystem& files, size_t first, size_t step) {
    const Checkpoint whole = Checkpoint::open(path_, files);
    size_t bit = 0;  // of all files
    for (const auto& [file, tensors] : tensors_) {
      std::string& bytes = files.bytes(path_ / file);
      for (size_t byte = 0; byte < bytes.size(); ++byte) {
        for (int shift = 0; shift < 8; ++shift, ++bit) {
          if (bit / kEvery % step != first || bit % kEvery != 0) continue;
          const char good = bytes[byte];
          bytes[byte] = static_cast<char>(good ^ (1 << shift));
          const std::string wrong = complaint(model, whole, files, file, byte);
          bytes[byte] = good;
          if (!wrong.empty()) return fmt::format("bit {} of byte {}: {}", shift, byte, wrong);
          ++flips;
        }
      }
    }
    model.load(Checkpoint::open(path_, files));
    return std::string();
  });
  EXPECT_EQ(flips, (8 * kBytes + kEvery - 1) / kEvery);
}

TEST_F(FlippedBits, EachTruncationIsRefusedByTheNamesOfFileAndTensor) {
  std::atomic<size_t> cuts = 0;
  on_all_cores([&](const PurposeBuilt& model, MemoryFileSystem& files, size_t first, size_t step) {
    const Checkpoint opened = Checkpoint::open(path_, files);
    size_t cut = 0;  // of all files
    for (const auto& [file, tensors] : tensors_) {
      std::string& bytes = files.bytes(path_ / file);
      const std::string whole = bytes;
      for (size_t size = whole.size(); size-- > 0; ++cut) {
        bytes.resize(size);
        if (cut / kEvery % step != first || cut % kEvery != 0) continue;
        const std::string wrong = complaint(model, opened, files, file, size);
        if (!wrong.empty()) return fmt::format("{} of {} bytes: {}", size, whole.size(), wrong);
        ++cuts;
      }
      bytes = whole + '\0';
      try {
        model.load(Checkpoint::open(path_, files));
        return file + " with a byte more is accepted";
      } catch (const CheckpointError&) {
      }
      bytes = whole;
    }
    model.load(Checkpoint::open(path_, files));
    return std::string();
  });
  EXPECT_EQ(cuts, (kBytes + kEvery - 1) / kEvery);
}

// Of what isn't synced, all, nothing, half or zeros have reached the disk.
TEST_F(FlippedBits, EveryBeginningOfItsWritesLeavesTheCheckpointBeforeOrTheNewOne) {
  constexpr int64_t kOld = 1, kNew = 2;
  for (const int64_t keep : {0, 1}) {
    MemoryFileSystem files(*files_);
    files.start_recording();
    PurposeBuilt model;
    model.fill(kNew);
    const Path path = model.save(files, comment_, kNew, keep);
    EXPECT_EQ(total_bytes(path, files), kBytes);
    std::set<std::string> seen;
    size_t beginnings = 0, disks = 0, old_ones = 0;
    for (size_t stop = 0; stop <= files.recorded(); ++stop, ++beginnings) {
      files.for_each_crash(stop, seen, [&](MemoryFileSystem& disk) {
        const auto latest = latest_checkpoint(kRun, disk);
        ASSERT_TRUE(latest) << "after " << stop << " calls";
        ASSERT_NO_THROW(model.load(Checkpoint::open(latest->path, disk)));
        ASSERT_TRUE(model.holds(latest->step)) << "after " << stop << " calls";
        ++disks;
        old_ones += latest->step == kOld;
      });
    }
    // Each of six files is made, named, written and synced, their directory made and named; two
    // names and two syncs commit it; the old one gets another name, and seven go.
    EXPECT_EQ(beginnings, 1 + 6u * 4 + 2 + 4 + (keep == 1 ? 8u : 0u));
    EXPECT_GT(old_ones, 6u * 4);
    EXPECT_GT(disks, old_ones);
  }
}

}  // namespace
}  // namespace switchyard
