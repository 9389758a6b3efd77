// What one layout saves every other loads, bit by bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/errors.h"
#include "base/version.h"
#include "checkpoint/small_model.h"
#include "checkpoint/tensors.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "safetensors/safetensors.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Layout {
  int ranks, expert_group_size;  // 0 ranks: one, without threads
  int slices = 1;

  std::string text() const {
    return std::to_string(ranks) + "x" + std::to_string(expert_group_size) + "x" +
           std::to_string(slices);
  }
};

// Runs the body on every rank of the layout.
void run(Layout layout, const std::function<void(const Groups& groups)>& body) {
  if (layout.ranks == 0) {
    const auto world = make_single_collectives();
    body(make_groups(*world, 1));
    return;
  }
  run_threaded_ranks(layout.ranks, [&](Collectives& world) {
    body(make_groups(world, layout.expert_group_size, layout.slices));
  });
}

void save(Layout layout, const std::filesystem::path& directory, DType dtype, int64_t step,
          int64_t width = 4) {
  run(layout, [&](const Groups& groups) {
    SmallModel model(groups, dtype, width);
    model.fill(step);
    save_checkpoint(directory, model.state(step), groups, {.run_id = "test"});
  });
}

// In 4x4 two ranks are without an expert of the second layer; in 3x3 seven are 3, 2, 2.
constexpr Layout kLayouts[] = {{0, 1},    {1, 1},    {2, 1},    {2, 2},    {3, 1},
                               {3, 3},    {4, 1},    {4, 2},    {4, 4},    {8, 8},
                               {2, 2, 2}, {3, 3, 3}, {4, 2, 2}, {4, 4, 2}, {6, 6, 2}};

TEST(CheckpointLayouts, EveryOneReadsEveryOther) {
  for (const Layout& from : kLayouts) {
    TemporaryDirectory directory;
    save(from, directory.path(), DType::kFloat32, 7);
    const auto checkpoint = Checkpoint::open(directory.path() / "step-00000007");
    EXPECT_EQ(checkpoint.manifest().layout.ranks, std::max(from.ranks, 1));
    EXPECT_EQ(checkpoint.manifest().layout.expert_group_size, from.expert_group_size);
    for (const Layout& to : kLayouts) {
      run(to, [&](const Groups& groups) {
        SmallModel model(groups, DType::kFloat32);
        model.clear();
        const uint64_t version = model.weights()[0]->version();
        checkpoint.load(model.weights(), model.optimizer(), *groups.world);
        EXPECT_EQ(model.difference(7), "") << from.text() << " to " << to.text();
        EXPECT_GT(model.weights()[0]->version(), version);
      });
    }
  }
}

TEST(CheckpointLayouts, KeepsFloat64AndTensorsOfSeveralChunks) {
  TemporaryDirectory directory;
  constexpr int64_t kWidth = 24'000;  // the embedding: 1.7 MB, an expert's matrix 1.2 MB
  for (const Layout& from : {Layout{3, 3}, Layout{6, 6, 3}}) {
    save(from, directory.path(), DType::kFloat64, 1, kWidth);
    const auto checkpoint = Checkpoint::open(directory.path() / "step-00000001");
    for (const Layout& to : {Layout{2, 1}, Layout{4, 4, 2}}) {
      run(to, [&](const Groups& groups) {
        SmallModel model(groups, DType::kFloat64, kWidth);
        model.clear();
        checkpoint.load(model.weights(), model.optimizer(), *groups.world);
        EXPECT_EQ(model.difference(1), "") << from.text() << " to " << to.text();
      });
    }
  }
}

TEST(CheckpointLayouts, WeightsLoadWithoutTheOptimizer) {
  TemporaryDirectory directory;
  save({2, 2}, directory.path(), DType::kFloat32, 1);
  const auto path = directory.path() / "step-00000001";
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().filename().string().starts_with("optimizer-")) {
      std::ofstream(entry.path()) << "damaged";
    }
  }
  run({0, 1}, [&](const Groups& groups) {
    SmallModel written(groups, DType::kFloat32), read(groups, DType::kFloat32);
    written.fill(1);
    read.clear();
    Checkpoint::open(path).load(read.weights(), *groups.world);
    for (size_t i = 0; i < read.weights().size(); ++i) {
      const TensorView a = read.weights()[i]->master(), b = written.weights()[i]->master();
      EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.size_bytes()), 0);
    }
  });
}

// Any tool opens the tensors: whole, under global names, through Hugging Face's index.
TEST(CheckpointLayouts, FilesAreAPlainSetOfSafetensors) {
  TemporaryDirectory directory;
  save({4, 2}, directory.path(), DType::kFloat32, 3);
  const auto path = directory.path() / "step-00000003";
  const auto set = SafetensorsSet::open(path);
  EXPECT_TRUE(set.warnings().empty());
  EXPECT_EQ(set.names().size(), 3u + 7u + 2u);
  run({0, 1}, [&](const Groups& groups) {
    SmallModel model(groups, DType::kFloat32);
    model.fill(3);
    const Weight& stacked = *model.weights()[3];
    for (int64_t expert = 0; expert < 7; ++expert) {
      const std::string name = "encoder.block.1.moe.expert." + std::to_string(expert) + ".wi";
      const Tensor stored = set.file_of(name).read(name);
      EXPECT_EQ(stored.shape(), Shape({6, 4}));
      EXPECT_EQ(std::memcmp(stored.view().raw(), stacked.master().rows(expert, expert + 1).raw(),
                            stored.size_bytes()),
                0)
          << name;
    }
  });
  const auto optimizer = SafetensorsFile::open(path / "optimizer-00001-of-00004.safetensors");
  for (const StoredTensor& tensor : optimizer.tensors()) {
    EXPECT_THAT(tensor.name, testing::MatchesRegex(".*/(adamw.first|adamw.second|row)"));
  }
}

TEST(CheckpointLayouts, TheSameStateGivesTheSameTensorsInEveryLayout) {
  TemporaryDirectory one;
  save({0, 1}, one.path(), DType::kFloat32, 3);
  const auto a = Checkpoint::open(one.path() / "step-00000003").manifest();
  for (const Layout& layout : {Layout{4, 4}, Layout{6, 6, 3}}) {
    TemporaryDirectory other;
    save(layout, other.path(), DType::kFloat32, 3);
    const auto b = Checkpoint::open(other.path() / "step-00000003").manifest();
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (size_t i = 0; i < a.tensors.size(); ++i) {
      EXPECT_EQ(a.tensors[i].name, b.tensors[i].name);
      EXPECT_EQ(a.tensors[i].shape, b.tensors[i].shape);
      EXPECT_EQ(a.tensors[i].slices[0].digest, b.tensors[i].slices[0].digest) << a.tensors[i].name;
    }
  }
}

TEST(CheckpointLayouts, PositionAndTextsComeBack) {
  TemporaryDirectory directory;
  const auto tokenizer = directory.path() / "a-tokenizer";
  std::ofstream(tokenizer) << "pieces";
  std::filesystem::path path;
  run({0, 1}, [&](const Groups& groups) {
    SmallModel model(groups, DType::kFloat32);
    model.fill(5);
    CheckpointState state = model.state(5);
    state.tokenizer = tokenizer;
    path = save_checkpoint(directory.path() / "runs" / "a" / "checkpoints", state, groups,
                           {.run_id = "test"});
  });
  EXPECT_EQ(path, directory.path() / "runs" / "a" / "checkpoints" / "step-00000005");
  const auto checkpoint = Checkpoint::open(path);
  const Manifest& manifest = checkpoint.manifest();
  EXPECT_EQ(manifest.step, 5);
  EXPECT_EQ(manifest.tokens_seen, 5000);
  EXPECT_EQ(manifest.sampler_position, 40);
  EXPECT_EQ(manifest.seed, uint64_t{1} << 63);
  EXPECT_EQ(manifest.program_version, kVersion);
  EXPECT_EQ(manifest.dataset_hash, digest_of("dataset"));
  EXPECT_EQ(checkpoint.read_file("config.yaml"), "model:\n  width: 4\n");
  EXPECT_EQ(checkpoint.read_file("tokenizer.model"), "pieces");
  EXPECT_THROW(checkpoint.read_file("none"), CheckpointError);
}

TEST(CheckpointOwners, AreHoldersAndShareTheBytes) {
  constexpr int kRanks = 8, kGroup = 4;
  for (const int slices : {1, 2}) {
    run({kRanks, kGroup, slices}, [](const Groups& groups) {
      SmallModel model(groups, DType::kFloat32, 100);
      const CheckpointState state = model.state(1);
      const auto tensors = global_tensors(state.weights, state.optimizer);
      const auto owners = owners_of(tensors, groups);
      std::vector<int64_t> bytes(kRanks);
      int64_t total = 0, largest = 0;
      for (size_t i = 0; i < tensors.size(); ++i) {
        if (owners[i] == groups.world->rank()) {
          EXPECT_TRUE(tensors[i].held) << tensors[i].name;
        }
        const int64_t size = tensors[i].shape.elements() * 4;
        bytes[static_cast<size_t>(owners[i])] += size;
        total += size;
        largest = std::max(largest, 3 * size);
      }
      for (const int64_t share : bytes) EXPECT_LE(share, total / kRanks + largest);
    });
  }
}

}  // namespace
}  // namespace switchyard
