// What the verbs on checkpoints do: verify, diff, average, list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/errors.h"
#include "checkpoint/average.h"
#include "checkpoint/compare.h"
#include "checkpoint/listing.h"
#include "checkpoint/small_model.h"
#include "checkpoint/stored_by_hand.h"
#include "checkpoint/verify.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "support/faulty_file_system.h"
#include "support/memory_file_system.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

template <typename T>
std::string bytes_of(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

// The embedding alone is 3.6 MB.
constexpr int64_t kWide = 100'000;

class Verify : public testing::Test {
 protected:
  Verify() {
    run_threaded_ranks(2, [&](Collectives& world) {
      const Groups groups = make_groups(world, 2);
      SmallModel model(groups, DType::kFloat32, kWide);
      model.fill(1);
      CheckpointState state = model.state(1);
      state.optimizer.clear();
      const auto path = save_checkpoint("/run", state, groups, {.run_id = "test"}, files_);
      if (world.rank() == 0) path_ = path;
    });
  }
  Verification verify(int threads = 2) {
    ThreadPool pool(threads);
    return verify_checkpoint(Checkpoint::open(path_, files_), pool);
  }
  const ManifestTensor& tensor(const std::string& name) {
    if (!checkpoint_) checkpoint_ = Checkpoint::open(path_, files_);
    return checkpoint_->tensor(name);
  }
  // Changes a byte of a tensor; returns its file.
  std::string damage(const std::string& name, uint64_t byte) {
    const TensorSlice& slice = tensor(name).slices[0];
    files_.bytes(path_ / slice.file)[slice.begin + byte] ^= 1;
    return slice.file;
  }

  MemoryFileSystem files_;
  std::filesystem::path path_;
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(Verify, FindsNothingInAWholeOneHoweverManyThreadsLook) {
  for (const int threads : {1, 2, 5}) {
    const Verification found = verify(threads);
    EXPECT_TRUE(found.damage.empty());
    EXPECT_TRUE(found.strangers.empty());
    EXPECT_EQ(found.files, 4);
    EXPECT_EQ(found.bytes + files_.bytes(path_ / "manifest.pb").size(),
              directory_bytes(path_, files_));
  }
}

TEST_F(Verify, NamesAllDamageAndGoesOn) {
  const std::string first = damage("encoder.block.1.moe.expert.0.wi", 0);
  damage("encoder.block.1.moe.expert.0.wi", 2 * kChunkBytes + 5);
  const std::string second = damage("encoder.block.1.moe.expert.6.wi", 17);
  ASSERT_NE(first, second);
  files_.bytes(path_ / "config.yaml") += "#";
  for (const int threads : {1, 3}) {
    const Verification found = verify(threads);
    ASSERT_EQ(found.damage.size(), 3u);
    EXPECT_EQ(found.damage[0].file, "config.yaml");
    EXPECT_THAT(found.damage[0].what, HasSubstr("bytes instead of"));
    for (size_t i : {1u, 2u}) {
      const auto& [file, what] = found.damage[i];
      const bool is_first = file == first;
      EXPECT_EQ(file, is_first ? first : second);
      EXPECT_THAT(what, HasSubstr(is_first ? "\"encoder.block.1.moe.expert.0.wi\""
                                           : "\"encoder.block.1.moe.expert.6.wi\""));
      EXPECT_THAT(what, Not(HasSubstr(is_first ? "expert.6" : "expert.0")));
      // Two places that don't touch.
      EXPECT_EQ(what.find("; the file is damaged") != what.npos, is_first) << what;
    }
  }
}

TEST_F(Verify, NamesWhatIsMissingWhatIsUnreadableAndWhatIsStrange) {
  std::ignore = tensor("shared.weight");
  EXPECT_EQ(files_.remove(path_ / "model.safetensors.index.json"), 0);
  FileOutput stranger(files_, path_ / "notes.txt");
  stranger.finish();
  const Verification found = verify();
  ASSERT_EQ(found.damage.size(), 1u);
  EXPECT_EQ(found.damage[0].file, "model.safetensors.index.json");
  EXPECT_THAT(found.damage[0].what, HasSubstr("No such file"));
  EXPECT_THAT(found.strangers, ElementsAre("notes.txt"));

  // Opening takes two opens and a read; the reads after it are of the files.
  FaultyFileSystem faulty(1, EIO, {"read"}, true, files_);
  ThreadPool pool(2);
  const Verification unread = verify_checkpoint(Checkpoint::open(path_, faulty), pool);
  EXPECT_EQ(unread.damage.size(), 4u);
  EXPECT_THAT(unread.damage.front().what, HasSubstr("Input/output error"));
}

// Every hash is right, but the files don't belong together.
TEST_F(Verify, NamesFilesThatTheManifestContradicts) {
  const auto forge = [&](const std::string& file, const std::string& text) {
    Manifest manifest = Checkpoint::open(path_, files_).manifest();
    files_.bytes(path_ / file) = text;
    for (ManifestFile& record : manifest.files) {
      if (record.name == file) record = {file, text.size(), {digest_of(text)}};
    }
    files_.bytes(path_ / "manifest.pb") = encode_manifest(manifest);
    const Verification found = verify();
    return found.damage.size() == 1 ? found.damage[0].file + ": " + found.damage[0].what : "";
  };
  EXPECT_THAT(forge("config.yaml", "other"), HasSubstr("config.yaml: it is another config"));
  checkpoint_.reset();
  files_.bytes(path_ / "config.yaml") = "model:\n  width: 4\n";
  const std::string index = files_.bytes(path_ / "model.safetensors.index.json");
  forge("config.yaml", "model:\n  width: 4\n");
  EXPECT_THAT(forge("model.safetensors.index.json", R"({"weight_map":{}})"),
              HasSubstr("in another file than the manifest"));
  std::string more = index;
  more.insert(more.find("\"shared.weight\""), "\"stranger\": \"f\",\n");
  EXPECT_THAT(forge("model.safetensors.index.json", more), HasSubstr("the manifest has not"));
  EXPECT_THAT(forge("model.safetensors.index.json", "{"), HasSubstr("no valid JSON"));
}

class Tools : public testing::Test {
 protected:
  Checkpoint stored(const std::string& name, const std::vector<HandTensor>& tensors) {
    write_by_hand(directory_.path() / name, tensors);
    return Checkpoint::open(directory_.path() / name);
  }
  TemporaryDirectory directory_;
};

TEST_F(Tools, DiffFindsTheFirstAndTheLargestDifference) {
  std::vector<float> wide(40'000, 1.0f);
  const std::vector<float> same = wide;
  std::vector<float> other = wide;
  other[30'002] = 1.5f;
  other[39'999] = -1.25f;
  const std::vector<int64_t> counts = {INT64_MAX, INT64_MIN};
  const std::vector<int64_t> others = {INT64_MAX, INT64_MIN + 3};
  const auto a = stored("a", {{"equal", StoredType::kF32, {40'000}, bytes_of(same)},
                              {"rows", StoredType::kF32, {40, 10, 100}, bytes_of(wide)},
                              {"counts", StoredType::kI64, {2}, bytes_of(counts)},
                              {"shaped", StoredType::kF32, {2}, std::string(8, '\0')},
                              {"gone", StoredType::kF32, {1}, std::string(4, '\0')}});
  const auto b = stored("b", {{"equal", StoredType::kF32, {40'000}, bytes_of(same), {1, 39'999}},
                              {"rows", StoredType::kF32, {40, 10, 100}, bytes_of(other)},
                              {"counts", StoredType::kI64, {2}, bytes_of(others)},
                              {"shaped", StoredType::kF32, {1, 2}, std::string(8, '\0')},
                              {"new", StoredType::kF32, {1}, std::string(4, '\0')}});
  const CheckpointDifference found = compare_checkpoints(a, b);
  EXPECT_FALSE(found.none());
  EXPECT_THAT(found.only_a, testing::Contains("gone"));
  EXPECT_THAT(found.only_b, testing::Contains("new"));
  EXPECT_THAT(found.unlike, ElementsAre("shaped: F32 [2], F32 [1, 2]"));
  ASSERT_EQ(found.differing.size(), 2u);
  const TensorDifference& rows = found.differing[0];
  EXPECT_EQ(rows.name, "rows");
  EXPECT_EQ(rows.elements, 40'000u);
  EXPECT_EQ(rows.differing, 2u);
  EXPECT_EQ(rows.largest, 2.25);
  EXPECT_THAT(rows.first, ElementsAre(30, 0, 2));
  EXPECT_EQ(rows.first_a, 1.0);
  EXPECT_EQ(rows.first_b, 1.5);
  EXPECT_EQ(found.differing[1].largest, 3.0);
  EXPECT_THAT(found.differing[1].first, ElementsAre(1));
  EXPECT_TRUE(compare_checkpoints(a, a).none());
}

TEST_F(Tools, DiffComparesBitsOfATypeAndNumbersOfTwo) {
  const float nan = std::nanf("");
  const auto a = stored("a", {{"nan", StoredType::kF32, {2}, bytes_of<float>({nan, 1})},
                              {"zero", StoredType::kF32, {1}, bytes_of<float>({0.0f})},
                              {"half", StoredType::kF16, {2}, std::string("\0\x3c\0\xc0", 4)}});
  const auto b = stored("b", {{"nan", StoredType::kF32, {2}, bytes_of<float>({nan, nan})},
                              {"zero", StoredType::kF32, {1}, bytes_of<float>({-0.0f})},
                              {"half", StoredType::kF32, {2}, bytes_of<float>({1, -2})}});
  const CheckpointDifference found = compare_checkpoints(a, b);
  ASSERT_EQ(found.differing.size(), 2u);
  EXPECT_TRUE(std::isnan(found.differing[0].largest));
  EXPECT_THAT(found.differing[0].first, ElementsAre(1));
  EXPECT_EQ(found.differing[1].name, "zero");
  EXPECT_EQ(found.differing[1].largest, 0.0);
  EXPECT_EQ(found.retyped, 1);
}

TEST_F(Tools, AverageIsTheMeanInFloat64) {
  // In float32 the large one would swallow the small ones.
  const std::vector<std::vector<float>> values = {{0x1p25f, 1}, {1, 2}, {1, 4}, {-0x1p25f, 5}};
  std::vector<Checkpoint> all;
  for (const auto& numbers : values) {
    all.push_back(
        stored(std::to_string(all.size()), {{"w", StoredType::kF32, {2, 1}, bytes_of(numbers)},
                                            {"half", StoredType::kBF16, {1}, "\x80\x3f"}}));
  }
  const auto path = average_checkpoints(all, directory_.path() / "mean");
  EXPECT_EQ(path, directory_.path() / "mean");
  const Checkpoint mean = Checkpoint::open(path);
  EXPECT_EQ(mean.read_file("config.yaml"), "name: hand\n");
  EXPECT_EQ(mean.manifest().tensors.size(), 2u) << "weights alone";
  const auto world = make_single_collectives();
  Weight w("w", WeightRole::kDense, DType::kFloat32, {2, 1}, HostMemory::instance());
  Weight half("half", WeightRole::kDense, DType::kFloat32, {1}, HostMemory::instance());
  mean.load({&w, &half}, *world);
  EXPECT_EQ(w.master().data<float>()[0], 0.5f);
  EXPECT_EQ(w.master().data<float>()[1], 3.0f);
  EXPECT_EQ(half.master().data<float>()[0], 1.0f);
  EXPECT_THROW(average_checkpoints(all, directory_.path() / "mean"), CheckpointError);
}

TEST_F(Tools, AverageRefusesOtherModels) {
  const auto error_of = [&](const Checkpoint& a, const Checkpoint& b) -> std::string {
    try {
      average_checkpoints({a, b}, directory_.path() / "mean");
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "";
  };
  const auto one = stored("one", {{"w", StoredType::kF32, {2}, std::string(8, 'x')}});
  const auto shaped = stored("shaped", {{"w", StoredType::kF32, {1, 2}, std::string(8, 'x')}});
  const auto more = stored("more", {{"w", StoredType::kF32, {2}, std::string(8, 'x')},
                                    {"v", StoredType::kF32, {2}, std::string(8, 'x')}});
  EXPECT_THAT(error_of(one, shaped), AllOf(HasSubstr("\"w\" is [1, 2]"), HasSubstr("[2] in")));
  EXPECT_THAT(error_of(one, more), HasSubstr("\"v\" is not in"));
  EXPECT_THAT(error_of(more, one), HasSubstr("\"v\" is not there"));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "mean"));
  EXPECT_EQ(error_of(one, one), "");
}

TEST_F(Tools, ListsWhatIsUnfinished) {
  for (const char* name : {"step-00000001.writing-a", "step-00000002.removing-b", "step-00000003",
                           "other.writing-a"}) {
    std::filesystem::create_directories(directory_.path() / name);
    std::ofstream(directory_.path() / name / "f") << "12345";
  }
  const auto found = list_unfinished(directory_.path());
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].name, "step-00000001.writing-a");
  EXPECT_EQ(found[0].bytes, 5u);
  EXPECT_EQ(found[1].name, "step-00000002.removing-b");
  EXPECT_FALSE(found[1].lacks_manifest);
  EXPECT_EQ(found[2].name, "step-00000003");
  EXPECT_TRUE(found[2].lacks_manifest);
  std::ofstream(directory_.path() / "step-00000003" / kManifestName) << "x";
  std::ofstream(directory_.path() / "step-00000004") << "a file";
  EXPECT_EQ(list_unfinished(directory_.path()).size(), 2u);
  EXPECT_TRUE(list_unfinished(directory_.path() / "none").empty());
}

}  // namespace
}  // namespace switchyard
