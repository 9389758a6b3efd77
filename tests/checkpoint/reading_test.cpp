// Reading: single tensors, weights stored in half precision, checkpoints that fit in part.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/errors.h"
#include "checkpoint/small_model.h"
#include "checkpoint/stored_by_hand.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string bytes_of_tensor(const Checkpoint& checkpoint, const std::string& name) {
  std::string all;
  checkpoint.read_tensor(name, [&](std::span<const std::byte> piece) {
    all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return all;
}

// Numbers of every kind, subnormal ones, infinities and NaNs among them.
std::string random_bits(size_t size_bytes, uint64_t seed) {
  std::string bytes;
  while (bytes.size() < size_bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bytes += static_cast<char>(seed >> 56);
  }
  return bytes;
}

// By the compiler's own types.
float widened(StoredType type, const std::string& bytes, size_t element) {
  if (type == StoredType::kF16) {
    _Float16 number;
    std::memcpy(&number, bytes.data() + 2 * element, sizeof number);
    return static_cast<float>(number);
  }
  char parts[4] = {0, 0, bytes[2 * element], bytes[2 * element + 1]};
  float number = 0;
  std::memcpy(&number, parts, sizeof number);
  return number;
}

bool same_number(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

// What the model has, element by element: calls check(name, element of the whole tensor, value).
template <typename Check>
void for_each_element(const SmallModel& model, Check&& check) {
  for (const Weight* weight : model.weights()) {
    const ElementRuns runs = weight->runs();
    const int64_t count = weight->is_expert() ? weight->experts().count : 1;
    for (int64_t i = 0; i < count; ++i) {
      const std::string name = weight->is_expert() ? weight->name_of_expert(i) : weight->name();
      const TensorView view =
          weight->is_expert() ? weight->master().rows(i, i + 1) : weight->master();
      for (int64_t at = 0; at < view.elements(); ++at) {
        check(name, runs.first + at / runs.length * runs.stride + at % runs.length,
              view.data<float>()[at]);
      }
    }
  }
}

class Reading : public testing::Test {
 protected:
  // The tensors of SmallModel with random bits, in two slices where there are two rows or more.
  std::map<std::string, std::string> store(StoredType type, int64_t width) {
    const auto world = make_single_collectives();
    const Groups groups = make_groups(*world, 1);
    std::map<std::string, std::string> stored;
    std::vector<HandTensor> tensors;
    const SmallModel model(groups, DType::kFloat32, width);
    for (const Weight* weight : model.weights()) {
      const int64_t count = weight->is_expert() ? weight->experts().count : 1;
      for (int64_t i = 0; i < count; ++i) {
        HandTensor tensor{.name = weight->is_expert() ? weight->name_of_expert(i) : weight->name(),
                          .type = type};
        for (int d = weight->is_expert(); d < weight->shape().rank(); ++d) {
          tensor.shape.push_back(static_cast<uint64_t>(weight->shape()[d]));
        }
        const auto elements = static_cast<uint64_t>(weight->shape().elements() / count);
        tensor.bytes = random_bits(2 * elements, stored.size());
        if (tensor.shape.size() > 1) tensor.slices = {elements / 3, elements - elements / 3};
        stored[tensor.name] = tensor.bytes;
        tensors.push_back(std::move(tensor));
      }
    }
    write_by_hand(path_, tensors);
    return stored;
  }

  TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "step-00000001";
};

TEST_F(Reading, HalfPrecisionIsWidenedExactlyOnEveryRankOfEveryLayout) {
  for (const StoredType type : {StoredType::kBF16, StoredType::kF16}) {
    const auto stored = store(type, 4);
    const Checkpoint checkpoint = Checkpoint::open(path_);
    for (const auto& [ranks, group, slices] : {std::array{1, 1, 1}, {3, 3, 1}, {4, 4, 2}}) {
      run_threaded_ranks(ranks, [&, group = group, slices = slices](Collectives& world) {
        const Groups groups = make_groups(world, group, slices);
        SmallModel model(groups, DType::kFloat32);
        model.clear();
        checkpoint.load(model.weights(), world);
        int64_t wrong = 0;
        for_each_element(model, [&](const std::string& name, int64_t element, float value) {
          const float expected = widened(type, stored.at(name), static_cast<size_t>(element));
          wrong += !same_number(value, expected);
        });
        EXPECT_EQ(wrong, 0) << name_of(type) << " on " << ranks;
      });
    }
    std::filesystem::remove_all(path_);
  }
}

TEST_F(Reading, ATensorComesOutWholeHoweverItLies) {
  const auto stored = store(StoredType::kBF16, 4);
  const Checkpoint checkpoint = Checkpoint::open(path_), copy = checkpoint;
  for (const auto& [name, bytes] : stored) {
    EXPECT_TRUE(copy.contains(name));
    EXPECT_EQ(checkpoint.tensor(name).type, StoredType::kBF16);
    EXPECT_TRUE(bytes_of_tensor(copy, name) == bytes) << name;
  }
  EXPECT_FALSE(checkpoint.contains("none"));
  EXPECT_THROW(checkpoint.tensor("none"), CheckpointError);
  EXPECT_THROW(bytes_of_tensor(checkpoint, "none"), CheckpointError);
}

// Elements that lie across two chunks of a MiB, since the data begin at an odd byte.
TEST_F(Reading, HalfPrecisionIsWidenedAcrossChunks) {
  constexpr uint64_t kElements = 1'300'000;
  const std::string bytes = random_bits(2 * kElements, 1);
  write_by_hand(path_, {{"a", StoredType::kF16, {kElements}, bytes, {600'000, 700'000}}});
  const auto world = make_single_collectives();
  Weight weight("a", WeightRole::kDense, DType::kFloat32, {kElements}, HostMemory::instance());
  const Checkpoint checkpoint = Checkpoint::open(path_);
  checkpoint.load({&weight}, *world);
  EXPECT_EQ(checkpoint.tensor("a").slices[0].begin % 2, 1u);
  int64_t wrong = 0;
  for (size_t i = 0; i < kElements; ++i) {
    wrong += !same_number(weight.master().data<float>()[i], widened(StoredType::kF16, bytes, i));
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(bytes_of_tensor(checkpoint, "a") == bytes);
}

TEST_F(Reading, HalfPrecisionFitsNoFloat64) {
  write_by_hand(path_, {{"a", StoredType::kF16, {4}, random_bits(8, 1)}});
  const auto world = make_single_collectives();
  Weight weight("a", WeightRole::kDense, DType::kFloat64, {4}, HostMemory::instance());
  EXPECT_THROW(Checkpoint::open(path_).load({&weight}, *world), CheckpointError);
}

class Partial : public Reading {
 protected:
  Partial() {
    const std::string one = random_bits(24, 3);
    write_by_hand(path_, {{"block.0.wi", StoredType::kF32, {2, 3}, one},
                          {"block.1.wi", StoredType::kF32, {2, 3}, one},
                          {"head.weight", StoredType::kF32, {3, 2}, one},
                          {"head.scale", StoredType::kF32, {6}, one}});
    add("block.0.wi", {2, 3});
    add("block.1.wi", {2, 3});
    add("head.weight", {2, 3});
    add("head.bias", {3});
  }
  void add(const std::string& name, const Shape& shape) {
    weights_.push_back(std::make_unique<Weight>(name, WeightRole::kDense, DType::kFloat32, shape,
                                                HostMemory::instance()));
    for (int64_t i = 0; i < shape.elements(); ++i) {
      weights_.back()->master().data<float>()[i] = 7.0f;
    }
  }
  // The error of loading, empty if none, and whether each weight was taken.
  std::string load(std::vector<std::string> partial) {
    std::vector<Weight*> all;
    for (const auto& weight : weights_) all.push_back(weight.get());
    const auto world = make_single_collectives();
    try {
      Checkpoint::open(path_).load(all, *world, {.partial = std::move(partial)});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string taken() const {
    std::string names;
    for (const auto& weight : weights_) {
      if (weight->master().data<float>()[0] != 7.0f) names += weight->name() + " ";
    }
    return names;
  }

  std::vector<std::unique_ptr<Weight>> weights_;
};

TEST_F(Partial, WhatDiffersIsNamedUnlessAPatternIsLikeIt) {
  EXPECT_THAT(load({}),
              AllOf(HasSubstr("1 tensor missing: head.bias"),
                    HasSubstr("of another shape or dtype: head.weight (F32 [3, 2] stored"),
                    HasSubstr("does not have: head.scale")));
  EXPECT_THAT(load({"head.bias"}),
              AllOf(Not(HasSubstr("missing")), HasSubstr("head.weight"), HasSubstr("head.scale")));
  EXPECT_THAT(load({"head.bias", "*scale"}),
              AllOf(HasSubstr("head.weight"), Not(HasSubstr("head.scale"))));
  EXPECT_EQ(taken(), "");
}

TEST_F(Partial, OthersAreTakenAndOneLineSaysWhatIsNot) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(load({"head.*"}), "");
  const std::string line = testing::internal::GetCapturedStdout();
  EXPECT_EQ(taken(), "block.0.wi block.1.wi ");
  EXPECT_THAT(line, HasSubstr("2 tensors of the model left as initialised: head.weight, head.bias; "
                              "2 tensors of the checkpoint left out: head.weight, head.scale"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(Partial, AllowsWhatDiffersAndTakesWhatFits) {
  EXPECT_EQ(load({"*"}), "");
  EXPECT_EQ(taken(), "block.0.wi block.1.wi ");
}

TEST_F(Partial, PatternsThatNoNameIsLikeAreRefused) {
  for (const char* pattern : {"heat.*", "", "head", "head.*x", "block.*.w", "*.0.*.wi"}) {
    EXPECT_THAT(load({"head.*", pattern}),
                AllOf(HasSubstr("\"" + std::string(pattern) + "\""), HasSubstr("no tensor")));
  }
  for (const char* pattern : {"head*", "**", "*i", "b*k.*.wi", "head.scale", "*.1.*", "*bias*"}) {
    EXPECT_EQ(load({"head.*", pattern}), "") << pattern;
  }
}

TEST_F(Partial, NothingInCommonIsRefused) {
  weights_.clear();
  add("other", {2});
  EXPECT_THAT(load({"*"}), HasSubstr("leaves nothing to take"));
}

}  // namespace
}  // namespace switchyard
