// The published schema against an independent validator: it takes every config of ours, refuses
// what the reader refuses, and is of the reader's opinion about random configs.
#include "config/schema.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/errors.h"
#include "config/field_reader.h"
#include "config/key_docs.h"
#include "random_config.h"
#include "registry/choices.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

const std::filesystem::path kSource = SWITCHYARD_SOURCE;

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// The first Python with the validator's modules; empty if there is none.
std::string python() {
  const std::string script = " '" + (kSource / "tests/registry/schema_validator.py").string() + "'";
  for (const char* candidate : {"python3", "/usr/bin/python3"})
    if (std::system((candidate + script + " 2> /dev/null").c_str()) == 0) return candidate + script;
  return "";
}

// For each text "ok" or why the schema refuses it; empty without the validator.
std::vector<std::string> judged_by_schema(const std::vector<std::string>& texts) {
  const std::string validator = python();
  if (validator.empty()) return {};
  const TemporaryDirectory directory;
  const std::string at = directory.path().string();
  std::ofstream(at + "/schema.json") << json_schema(choice_tables());
  std::string files;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string file = std::to_string(i) + ".yaml";
    std::ofstream(at + "/" + file) << texts[i];
    files += " " + file;
  }
  const std::string command = "cd " + at + " && " + validator + " schema.json" + files + " > out";
  EXPECT_EQ(std::system(command.c_str()), 0);
  std::vector<std::string> verdicts;
  std::istringstream lines(read_file(at + "/out"));
  for (std::string line; std::getline(lines, line);) verdicts.push_back(line);
  EXPECT_EQ(verdicts.size(), texts.size());
  verdicts.resize(texts.size());
  return verdicts;
}

#define SKIP_WITHOUT_VALIDATOR(verdicts) \
  if ((verdicts).empty()) GTEST_SKIP() << "needs python3-jsonschema and python3-yaml"

// What the reader alone says: rules between keys are not the schema's to know.
class KeyReader : public FieldReader {
 public:
  using FieldReader::FieldReader;
  void inert_if(bool, std::initializer_list<const char*>, const std::string&) override {}
};

std::string judged_by_reader(const std::string& text) {
  const std::vector<std::string> paths = known_paths(document_keys(choice_tables()));
  try {
    const YamlNode root = parse_yaml(text, "a.yaml");
    Config config;
    KeyReader(root, choice_tables(), paths).read(config);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "ok";
}

TEST(Schema, TakesEveryConfigOfOurs) {
  std::vector<std::string> names, texts;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kSource / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    names.push_back(entry.path().string());
    texts.push_back(read_file(entry.path()));
  }
  ASSERT_GE(texts.size(), 2u);
  texts.push_back(to_yaml(parse_config("", "a.yaml", {}, choice_tables())));
  names.push_back("the defaults, written out");
  const std::vector<std::string> verdicts = judged_by_schema(texts);
  SKIP_WITHOUT_VALIDATOR(verdicts);
  for (size_t i = 0; i < verdicts.size(); ++i) EXPECT_EQ(verdicts[i], "ok") << names[i];
}

TEST(Schema, TakesWhatTheReaderTakes) {
  const std::vector<std::string> texts = {
      "",
      "base: other.yaml\n",
      "base: [one.yaml, two.yaml]\nseed: 2\n",
      "model:\nmoe:\n  encoder:\n    capacity:\n",
      "schedule: {learning_rate: 1e-5}\n",
      "schedule: {type: constant, learning_rate: 1}\n",
      "data: {sources: [{label: 7, path: no}]}\n",
      "moe: {encoder: {layers: [1, 3]}, decoder: {layers: {every: 1}}}\n",
  };
  const std::vector<std::string> verdicts = judged_by_schema(texts);
  SKIP_WITHOUT_VALIDATOR(verdicts);
  for (size_t i = 0; i < verdicts.size(); ++i) EXPECT_EQ(verdicts[i], "ok") << texts[i];
}

TEST(Schema, RefusesWhatTheReaderRefuses) {
  const std::vector<std::string> texts = {
      "moe: {expert: 8}\n",
      "zebra: 1\n",
      "data: {sources: [{labl: a}]}\n",
      "schedule: {type: constant, warmup_steps: 5}\n",
      "optimizer: {beta3: 0.9}\n",
      "train: {steps: ten}\n",
      "train: {steps: 1.5}\n",
      "train: {steps: \"5\"}\n",
      "train: {steps: }\n",
      "train: [1]\n",
      "model: {tie_embeddings: yes}\n",
      "model: {tie_embeddings: 1}\n",
      "moe: {capacity: 1.25}\n",
      "moe: {group_sequences: some}\n",
      "data: {sources: {label: a}}\n",
      "train: {steps: 0}\n",
      "model: {dropout: 0.96}\n",
      "moe: {capacity: {train_factor: 65}}\n",
      "moe: {encoder: {layers: {every: 0}}}\n",
      "moe: {encoder: {layers: [1, 1]}}\n",
      "moe: {encoder: {layers: []}}\n",
      "moe: {capacity: {rounding: up}}\n",
      "moe: {decoder: {router: {type: swich}}}\n",
      "optimizer: {type: 3}\n",
      "- 1\n",
  };
  const std::vector<std::string> verdicts = judged_by_schema(texts);
  for (const std::string& text : texts) EXPECT_NE(judged_by_reader(text), "ok") << text;
  SKIP_WITHOUT_VALIDATOR(verdicts);
  for (size_t i = 0; i < verdicts.size(); ++i) EXPECT_NE(verdicts[i], "ok") << texts[i];
}

TEST(Schema, AgreesWithTheReaderOnRandomConfigs) {
  constexpr uint32_t kConfigs = 300;
  std::vector<std::string> texts;
  for (uint32_t seed = 0; seed < kConfigs; ++seed) {
    test::RandomConfig random(seed, choice_tables());
    YamlNode root = random.draw();
    if (seed % 2 == 1) random.spoil(root);
    texts.push_back(write_yaml(root));
  }
  const std::vector<std::string> verdicts = judged_by_schema(texts);
  SKIP_WITHOUT_VALIDATOR(verdicts);
  int taken = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string reader = judged_by_reader(texts[i]);
    EXPECT_EQ(verdicts[i] == "ok", reader == "ok")
        << "schema: " << verdicts[i] << "\nreader: " << reader << "\n"
        << texts[i];
    taken += reader == "ok";
    if (i % 2 == 0) {
      EXPECT_EQ(reader, "ok") << texts[i];
    }
  }
  EXPECT_GE(taken, 150);
  EXPECT_LE(taken, 250);  // what was spoilt is refused, mostly
}

}  // namespace
}  // namespace switchyard
