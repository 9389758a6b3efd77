#include "data/dataset.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/errors.h"
#include "data/small_dataset.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

class DatasetTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  const std::filesystem::path& path_ = directory_.path();

  void SetUp() override {
    write_small_dataset(path_, {"de", "fr"}, {{0, {10, 11, 12}}, {1, {13}}}, {{1, {14, 15}}});
  }

  nlohmann::json listing() const {
    return nlohmann::json::parse(std::ifstream(path_ / kListingFile));
  }
  void write_listing(const std::string& text) const {
    std::ofstream(path_ / kListingFile, std::ios::trunc) << text;
  }

  // What opening says, "" when it opens; `file` must be named.
  std::string refusal(const std::string& file) const {
    try {
      Dataset{path_};
    } catch (const InputError& error) {
      EXPECT_EQ(error.where(), (path_ / file).string());
      EXPECT_NE(error.advice().find("switchyard data build"), std::string::npos);
      return error.what();
    }
    return "";
  }
};

TEST_F(DatasetTest, OpensWhatWasWritten) {
  const Dataset dataset(path_);
  EXPECT_EQ(dataset.labels(), (std::vector<std::string>{"de", "fr"}));
  EXPECT_EQ(dataset.tokens(Split::kTrain).token_count(), 4);
  EXPECT_EQ(dataset.tokens(Split::kValidation).document_label(0), 1);
  EXPECT_EQ(dataset.listing().total(Split::kTrain).documents, 2);
  EXPECT_EQ(dataset.listing().counts[0][0].tokens, 3);
  EXPECT_NO_THROW(dataset.verify());
}

TEST_F(DatasetTest, DigestFollowsTheContents) {
  const Digest digest = Dataset(path_).digest();
  EXPECT_EQ(Dataset(path_).digest(), digest);
  const TemporaryDirectory other;
  write_small_dataset(other.path(), {"de", "fr"}, {{0, {10, 11, 12}}, {1, {13}}}, {{1, {14, 16}}});
  EXPECT_NE(Dataset(other.path()).digest(), digest);
  const TemporaryDirectory renamed;
  write_small_dataset(renamed.path(), {"de", "it"}, {{0, {10, 11, 12}}, {1, {13}}},
                      {{1, {14, 15}}});
  EXPECT_NE(Dataset(renamed.path()).digest(), digest);
}

TEST_F(DatasetTest, MissingFilesAreNamed) {
  std::filesystem::remove(path_ / kListingFile);
  EXPECT_NE(refusal(kListingFile).find("no dataset here"), std::string::npos);
  for (const char* file : {"train.tokens", "validation.tokens", "tokenizer.model"}) {
    const TemporaryDirectory fresh;
    write_small_dataset(fresh.path(), {"a"}, {{0, {10}}}, {});
    std::filesystem::remove(fresh.path() / file);
    try {
      Dataset{fresh.path()};
      ADD_FAILURE() << file;
    } catch (const InputError& error) {
      EXPECT_EQ(error.where(), (fresh.path() / file).string());
    }
  }
}

TEST_F(DatasetTest, DamagedListingsAreRefused) {
  const nlohmann::json whole = listing();
  const std::string text = whole.dump();
  for (size_t size = 0; size < text.size(); size += 7) {
    write_listing(text.substr(0, size));
    EXPECT_NE(refusal(kListingFile), "") << size;
  }
  const auto refused = [&](const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json changed = whole;
    change(changed);
    write_listing(changed.dump());
    return refusal(kListingFile);
  };
  EXPECT_EQ(refused([](auto&) {}), "");
  EXPECT_NE(refused([](auto& j) { j["version"] = 1; }).find("version 1"), std::string::npos);
  EXPECT_NE(refused([](auto& j) { j["format"] = "other"; }), "");
  EXPECT_NE(refused([](auto& j) { j["labels"] = {"de", "de"}; }), "");
  EXPECT_NE(refused([](auto& j) { j["examples"] = "images"; }), "");
  EXPECT_NE(refused([](auto& j) { j["vocabulary"]["eos"] = j["vocabulary"]["size"]; }), "");
  EXPECT_NE(refused([](auto& j) { j["vocabulary"]["first_sentinel"] = nullptr; }), "");
  EXPECT_NE(refused([](auto& j) { j["vocabulary"]["size"] = 0; }), "");
  EXPECT_NE(refused([](auto& j) { j["labels"] = {"de"}; }), "");
  EXPECT_NE(refused([](auto& j) { j["labels"] = nlohmann::json::array(); }), "");
  EXPECT_NE(refused([](auto& j) { j["labels"] = {1, 2}; }), "");
  EXPECT_NE(refused([](auto& j) { j.erase("build"); }), "");
  EXPECT_NE(refused([](auto& j) { j["train"] = 5; }), "");
  EXPECT_NE(refused([](auto& j) { j["train"]["size_bytes"] = -5; }), "");
  EXPECT_NE(refused([](auto& j) { j["train"]["size_bytes"] = 1.5; }), "");
  EXPECT_NE(refused([](auto& j) { j["train"]["size_bytes"] = 1e30; }), "");
  EXPECT_NE(refused([](auto& j) { j["train"]["by_label"][0].erase("tokens"); }), "");
  EXPECT_NE(refused([](auto& j) { j = nlohmann::json::array({j}); }), "");
  write_listing(std::string(1 << 20, '['));
  EXPECT_NE(refusal(kListingFile), "");
}

TEST_F(DatasetTest, FilesOfAnotherDatasetAreRefused) {
  const TemporaryDirectory other;
  write_small_dataset(other.path(), {"de", "fr"}, {{0, {10, 11, 99}}, {1, {13}}}, {{1, {14}}});
  const auto overwrite = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(other.path() / "train.tokens", path_ / "train.tokens", overwrite);
  EXPECT_NE(refusal("train.tokens").find("isn't the one"), std::string::npos);
}

TEST_F(DatasetTest, AnotherTokenizerIsRefused) {
  std::string model = small_tokenizer();
  const size_t piece = model.find("ko");
  ASSERT_NE(piece, std::string::npos);
  model.replace(piece, 2, "kq");
  std::ofstream(path_ / kTokenizerFile, std::ios::binary | std::ios::trunc) << model;
  EXPECT_NE(refusal(kTokenizerFile), "");
}

TEST_F(DatasetTest, TruncationShowsWhenOpening) {
  const auto file = path_ / "train.tokens";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 4);
  EXPECT_NE(refusal("train.tokens").find("bytes instead of"), std::string::npos);
}

TEST_F(DatasetTest, DamagedIdsShowWhenVerifying) {
  std::fstream file(path_ / "train.tokens", std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(128);
  file.put('\x0b');
  file.close();
  const Dataset dataset(path_);
  EXPECT_THROW(dataset.verify(), InputError);
}

}  // namespace
}  // namespace switchyard
