// Damaged, unfit and hostile checkpoints are refused with the name of what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/errors.h"
#include "checkpoint/directory.h"
#include "checkpoint/small_model.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "support/faulty_file_system.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

class Damage : public testing::Test {
 protected:
  Damage()
      : world_(make_single_collectives()),
        groups_(make_groups(*world_, 1)),
        model_(groups_, DType::kFloat32, 2) {
    model_.fill(1);
    path_ = save_checkpoint(directory_.path(), model_.state(1), groups_, {.run_id = "test"});
  }

  // Empty when it loads.
  std::string load_error() const {
    try {
      Checkpoint::open(path_).load(model_.weights(), model_.optimizer(), *world_);
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "";
  }

  std::vector<std::string> file_names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Collectives> world_;
  Groups groups_;
  SmallModel model_;
  std::filesystem::path path_;
};

TEST_F(Damage, AMissingFileIsNamed) {
  for (const std::string& name : file_names()) {
    std::filesystem::rename(path_ / name, path_ / "away");
    EXPECT_THAT(load_error(), HasSubstr(name));
    std::filesystem::create_symlink("away", path_ / name);
    EXPECT_THAT(load_error(), HasSubstr(name)) << "through a link";
    std::filesystem::rename(path_ / "away", path_ / name);
  }
  EXPECT_EQ(load_error(), "");
}

TEST_F(Damage, ACopyIsACheckpointAndAnUnfinishedOneIsNot) {
  std::filesystem::copy(path_, directory_.path() / "best");
  path_ = directory_.path() / "best";
  EXPECT_EQ(load_error(), "");
  path_ = directory_.path() / "step-00000002.writing-test";
  std::filesystem::copy(directory_.path() / "best", path_);
  EXPECT_THAT(load_error(), HasSubstr("never finished"));
  std::filesystem::remove(directory_.path() / "best" / "manifest.pb");
  path_ = directory_.path() / "best/";
  EXPECT_THAT(load_error(), HasSubstr("no manifest.pb"));
  path_ = directory_.path() / "none";
  EXPECT_THAT(load_error(), HasSubstr("no manifest.pb"));
}

// With hashes made anew, as only somebody on purpose does it.
TEST_F(Damage, AHeaderThatContradictsTheManifestIsRefused) {
  const std::string name = "model-00001-of-00001.safetensors";
  Manifest manifest = Checkpoint::open(path_).manifest();
  std::string bytes = text_of(path_ / name);
  const size_t at = bytes.find("shared.weight");
  ASSERT_LT(at, bytes.size());
  bytes[at] = 'S';
  write_text(path_ / name, bytes);
  for (ManifestFile& file : manifest.files) {
    if (file.name == name) file.chunks = {digest_of(bytes)};
  }
  write_text(path_ / kManifestName, encode_manifest(manifest));
  const std::string problem = "the file and the manifest disagree about tensor \"shared.weight\"";
  EXPECT_THAT(load_error(), HasSubstr(problem));
  try {
    Checkpoint::open(path_).read_tensor("shared.weight");
    FAIL() << "read";
  } catch (const CheckpointError& error) {
    EXPECT_EQ(error.summary(), problem);
  }
}

TEST_F(Damage, EveryReadThatFailsIsReported) {
  for (int64_t call = 0;; ++call) {
    FaultyFileSystem files(call, EIO);
    std::string error;
    try {
      Checkpoint::open(path_, files).load(model_.weights(), model_.optimizer(), *world_);
    } catch (const CheckpointError& e) {
      error = e.what();
    }
    if (!files.failed()) break;
    if (files.record().back() == "close_input") continue;  // nothing is lost by it
    EXPECT_THAT(error, HasSubstr("Input/output error")) << call;
  }
}

// A model whose weights differ from those stored.
struct OtherModel {
  explicit OtherModel(std::vector<std::pair<std::string, Shape>> shapes,
                      DType dtype = DType::kFloat32) {
    for (const auto& [name, shape] : shapes) {
      const bool expert = name.find('*') != std::string::npos;
      owned.push_back(std::make_unique<Weight>(
          name, expert ? WeightRole::kExpert : WeightRole::kDense, dtype, shape,
          HostMemory::instance(), expert ? ExpertRange{0, shape[0], shape[0]} : ExpertRange{}));
      weights.push_back(owned.back().get());
    }
  }
  std::vector<std::unique_ptr<Weight>> owned;
  std::vector<Weight*> weights;
};

TEST_F(Damage, TensorsThatDoNotFitAreNamed) {
  const auto error_of = [&](const OtherModel& model) -> std::string {
    try {
      Checkpoint::open(path_).load(model.weights, *world_);
    } catch (const CheckpointError& error) {
      EXPECT_EQ(error.where(), path_.string());
      return error.summary();
    }
    return "";
  };
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const Weight* weight : model_.weights())
    shapes.emplace_back(weight->name(), weight->shape());
  EXPECT_EQ(error_of(OtherModel(shapes)), "");
  auto other = shapes;
  other[0].second = {9, 3};
  EXPECT_THAT(error_of(OtherModel(other)),
              HasSubstr("1 tensor of another shape or dtype: shared.weight (F32 [9, 2] stored, F32 "
                        "[9, 3] wanted)"));
  other = shapes;
  other[3].second = {8, 3, 2};
  EXPECT_THAT(error_of(OtherModel(other)),
              HasSubstr("1 tensor missing: encoder.block.1.moe.expert.7.wi"));
  other[3].second = {6, 3, 2};
  EXPECT_THAT(error_of(OtherModel(other)),
              HasSubstr("1 tensor that the model does not have: encoder.block.1.moe.expert.6.wi"));
  other = shapes;
  other[0].first = "shared.wight";
  EXPECT_THAT(error_of(OtherModel(other)),
              testing::AllOf(HasSubstr("missing: shared.wight"),
                             HasSubstr("does not have: shared.weight")));
  EXPECT_THAT(error_of(OtherModel(shapes, DType::kFloat64)),
              HasSubstr("12 tensors of another shape or dtype"));
}

TEST_F(Damage, OptimizerStateMustFitToo) {
  std::vector<OptimizerState> optimizer = model_.optimizer();
  optimizer.pop_back();
  optimizer[0].name = "momentum";
  try {
    Checkpoint::open(path_).load(model_.weights(), optimizer, *world_);
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.summary(), HasSubstr("missing: shared.weight/momentum"));
    EXPECT_THAT(error.summary(), HasSubstr("does not have: decoder.block.1.moe.expert.0.wo/row"));
  }
}

// One rank finds the damage, all ranks hear of it.
TEST_F(Damage, AnErrorOfOneRankReachesAll) {
  TemporaryDirectory directory;
  run_threaded_ranks(2, [&](Collectives& world) {
    const Groups groups = make_groups(world, 2);
    SmallModel model(groups, DType::kFloat32);
    model.fill(1);
    const auto path = save_checkpoint(directory.path(), model.state(1), groups, {.run_id = "test"});
    const auto checkpoint = Checkpoint::open(path);
    // Expert 6 is held by rank 1 only.
    const std::string name = "encoder.block.1.moe.expert.6.wi";
    if (world.rank() == 0) {
      for (const ManifestTensor& tensor : checkpoint.manifest().tensors) {
        if (tensor.name != name) continue;
        std::string bytes = text_of(path / tensor.slices[0].file);
        bytes[tensor.slices[0].begin] ^= 1;
        write_text(path / tensor.slices[0].file, bytes);
      }
    }
    world.barrier();
    try {
      checkpoint.load(model.weights(), model.optimizer(), world);
      ADD_FAILURE() << "loaded on rank " << world.rank();
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
      EXPECT_THAT(error.what(), HasSubstr(name));
    }
  });
}

}  // namespace
}  // namespace switchyard
