// Base files, and what `config show` says of every value's origin.
#include <algorithm>
#include <fstream>

#include "support/temporary_directory.h"
#include "test_tables.h"

namespace switchyard {
namespace {

// Configs in a folder of their own, and what loading one of them gives.
class BaseFiles : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(path(name).parent_path());
    std::ofstream(path(name)) << text;
  }
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  // Without the folder's name, so that places can be written down.
  std::string shortened(std::string text) const {
    const std::string folder = directory_.path().string() + "/";
    for (size_t at; (at = text.find(folder)) != std::string::npos;) text.erase(at, folder.size());
    return text;
  }
  Config load(const std::string& name, const std::vector<std::string>& overrides = {}) const {
    return load_config(path(name), overrides, test_tables());
  }
  std::string origin(const Config& config, const std::string& key) const {
    return shortened(config.origins.text(key));
  }
  std::string error_of(const std::string& name,
                       const std::vector<std::string>& overrides = {}) const {
    try {
      load(name, overrides);
    } catch (const ConfigError& error) {
      const std::string text = error.what();
      EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 2) << text;
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return shortened(text);
    }
    return "no error";
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(BaseFiles, LaterStandsOverEarlier) {
  write("common/wide.yaml", "model: {d_model: 64, heads: 8}\ntrain: {steps: 5, log_every: 2}\n");
  write("common/short.yaml", "base: deeper/all.yaml\ntrain: {steps: 6}\n");
  write("common/deeper/all.yaml", "seed: 9\nname: all\ntrain: {steps: 1}\ncheckpoint: {keep: 4}\n");
  write("mine.yaml",
        "base: [common/wide.yaml, common/short.yaml]\nmodel: {heads: 2}\ntrain:\n  # nothing\n");
  const Config config = load("mine.yaml", {"model.d_kv=16"});
  EXPECT_EQ(config.model.d_model, 64);
  EXPECT_EQ(config.model.heads, 2);
  EXPECT_EQ(config.model.d_kv, 16);
  EXPECT_EQ(config.train.steps, 6);
  EXPECT_EQ(config.train.log_every, 2);
  EXPECT_EQ(config.checkpoint.keep, 4);
  EXPECT_EQ(config.seed, 9);
  EXPECT_EQ(config.name, "mine");  // not the base's

  EXPECT_EQ(origin(config, "model.d_model"), "common/wide.yaml:1:18");
  EXPECT_EQ(origin(config, "model.heads"), "mine.yaml:2:16");
  EXPECT_EQ(origin(config, "model.d_kv"), "--set model.d_kv=16");
  EXPECT_EQ(origin(config, "train.steps"), "common/short.yaml:2:16");
  EXPECT_EQ(origin(config, "seed"), "common/deeper/all.yaml:1:7");
  EXPECT_EQ(origin(config, "model.d_ff"), "default");
}

TEST_F(BaseFiles, ListsAndValuesAreReplaced) {
  write("base.yaml",
        "data: {sources: [{label: a, path: x}, {label: b, path: y}]}\n"
        "moe: {encoder: {layers: [0, 1]}, decoder: {layers: {every: 2}}}\n");
  write("mine.yaml",
        "base: base.yaml\ndata: {sources: [{label: c, path: z}]}\n"
        "moe: {encoder: {layers: {every: 1}}, decoder: {layers: [3]}}\n");
  const Config config = load("mine.yaml");
  ASSERT_EQ(config.data.sources.size(), 1u);
  EXPECT_EQ(config.data.sources[0].label, "c");
  EXPECT_EQ(config.moe.encoder.layers, LayerSet::every(1));
  EXPECT_EQ(config.moe.decoder.layers, LayerSet::list({3}));
}

TEST_F(BaseFiles, AnotherTypeStartsItsSectionAnew) {
  write("base.yaml",
        "moe: {encoder: {router: {type: top_k, k: 4}}, decoder: {router: {jitter: 0.2}}}\n"
        "schedule: {learning_rate: 0.5, warmup_steps: 3}\n"
        "model: {type: switch_t5, heads: 2}\n");
  write("mine.yaml",
        "base: base.yaml\nmoe: {encoder: {router: {type: switch, jitter: 0.3}},\n"
        "  decoder: {router: {type: switch}}}\nschedule: {type: constant}\n"
        "model: {type: switch_t5}\n");
  const Config config = load("mine.yaml");
  EXPECT_EQ(config.moe.encoder.router.as<TestSwitch>().jitter, 0.3);
  EXPECT_EQ(config.moe.decoder.router.as<TestSwitch>().jitter, 0.2);  // the default type all along
  EXPECT_EQ(config.schedule.type, "constant");
  EXPECT_EQ(config.schedule.as<TestSchedule>().learning_rate, 1e-3);
  EXPECT_EQ(config.schedule.as<TestSchedule>().warmup_steps, 0);
  EXPECT_EQ(config.model.heads, 2);

  // Options without `type` go with the base's type.
  write("more.yaml", "base: base.yaml\nmoe: {encoder: {router: {normalize: false}}}\n");
  EXPECT_EQ(load("more.yaml").moe.encoder.router.as<TestTopK>().k, 4);
}

TEST_F(BaseFiles, AnOverridesTypeKeepsOtherOverrides) {
  write("mine.yaml", "moe: {encoder: {router: {type: switch, jitter: 0.3}}}\n");
  const std::vector<std::string> before = {"moe.encoder.router.k=5",
                                           "moe.encoder.router.type=top_k"};
  EXPECT_EQ(load("mine.yaml", before).moe.encoder.router.as<TestTopK>().k, 5);
  const std::vector<std::string> after = {before[1], before[0]};
  EXPECT_EQ(load("mine.yaml", after).moe.encoder.router.as<TestTopK>().k, 5);
  const Config same = load("mine.yaml", {"moe.encoder.router.type=switch"});
  EXPECT_EQ(same.moe.encoder.router.as<TestSwitch>().jitter, 0.3);
  EXPECT_EQ(error_of("mine.yaml", {"moe.encoder.router.jitter=0.1", before[1]}),
            "unknown key 'moe.encoder.router.jitter'\n  at --set moe.encoder.router.jitter=0.1\n"
            "  it is an option of another 'type' of moe.encoder.router");
}

TEST_F(BaseFiles, ErrorsNameTheFileThatIsWrong) {
  write("sub/base.yaml", "train:\n  setps: 5\n");
  write("range.yaml", "train:\n  steps: 0\n");
  write("empty.yaml", "# nothing\n");
  write("list.yaml", "- 1\n");
  write("unclosed.yaml", "moe: {experts: 4\n");
  write("inert.yaml", "moe: {capacity: {tokens: 5}}\n");
  const auto error_with = [&](const std::string& text) {
    write("a.yaml", text);
    return error_of("a.yaml");
  };
  EXPECT_EQ(error_with("base: sub/base.yaml\n"),
            "unknown key 'train.setps'\n  at sub/base.yaml:2:3\n  did you mean 'steps'?");
  EXPECT_EQ(error_with("base: range.yaml\ntrain: {log_every: 5}\n"),
            "train.steps = 0 is out of range\n  at range.yaml:2:10\n"
            "  allowed: 1 to 1073741824 steps");
  EXPECT_EQ(error_with("base: range.yaml\ntrain: {steps: }\n"),
            "train.steps has no value\n  at a.yaml:2:9\n  expected: integer; or remove the key");
  EXPECT_EQ(error_with("base: inert.yaml\nmoe: {capacity: {train_factor: 2}}\n"),
            "moe.capacity.train_factor has no effect when 'tokens' sets the room outright\n"
            "  at a.yaml:2:18\n  remove 'train_factor', or change the other");
  EXPECT_EQ(error_with("base: unclosed.yaml\n"),
            "not valid YAML: end of map flow not found\n  at unclosed.yaml:2:1\n"
            "  look for a missing space, quote or bracket at or before this place");
  EXPECT_EQ(error_with("seed: 1\nbase: [empty.yaml, none.yaml]\n"),
            "there is no base 'none.yaml'\n  at a.yaml:2:20\n"
            "  its path starts at the folder of the file that names it");
  EXPECT_EQ(error_with("base: sub\n"),
            "can't read base 'sub'\n  at a.yaml:1:7\n"
            "  its path starts at the folder of the file that names it");
  EXPECT_EQ(error_with("base: list.yaml\n"),
            "base 'list.yaml' holds no sections and keys\n  at list.yaml:1:1\n"
            "  a base is written like any config");
  const std::string advice = "\n  write it like 'base: common.yaml' or 'base: [a.yaml, b.yaml]'";
  for (const auto& [text, column] :
       {std::pair{"base: {a: 1}\n", 7}, {"base: [[x]]\n", 8}, {"base:\n", 1}, {"base: ''\n", 7}})
    EXPECT_EQ(error_with(text), "base must name a file, or a list of files\n  at a.yaml:1:" +
                                    std::to_string(column) + advice);
  EXPECT_EQ(error_with("bsae: x.yaml\n"),
            "unknown key 'bsae'\n  at a.yaml:1:1\n  did you mean 'base'?");
  write("a.yaml", "seed: 1\n");
  EXPECT_EQ(error_of("a.yaml", {"base=x.yaml"}),
            "'base' stands in a file only\n  at --set base=x.yaml\n"
            "  name the file in the config, or set its keys one by one");
}

TEST_F(BaseFiles, CyclesAndFloodsAreRefused) {
  write("a.yaml", "base: sub/b.yaml\n");
  write("sub/b.yaml", "base: ../a.yaml\n");
  EXPECT_EQ(error_of("a.yaml"),
            "base leads back to the file it started from\n  at sub/b.yaml:1:7\n"
            "  remove one of these: a.yaml -> sub/b.yaml -> a.yaml");
  write("self.yaml", "base: [self.yaml]\n");
  EXPECT_EQ(error_of("self.yaml"),
            "base leads back to the file it started from\n  at self.yaml:1:8\n"
            "  remove one of these: self.yaml -> self.yaml");

  // The same file twice is no cycle, but each naming the next twice would be 2^20 files.
  write("0.yaml", "seed: 5\n");
  for (int i = 1; i <= 20; ++i) {
    const std::string below = std::to_string(i - 1) + ".yaml";
    write(std::to_string(i) + ".yaml", "base: [" + below + ", " + below + "]\n");
  }
  EXPECT_EQ(load("4.yaml").seed, 5);
  EXPECT_EQ(error_of("20.yaml").substr(0, 24), "more than 100 base files");
}

TEST(Origins, StandBehindEveryValueOfAValidConfig) {
  const std::string file =
      "data:\n  sources:\n    - {label: a, path: 'x # y'}\n"
      "moe:\n  encoder: {capacity: {eval_factor: 3}}\n";
  const Config config = read(file, {"train.steps=7"});
  const std::string shown = to_yaml_with_origins(config);
  for (const char* line : {
           "seed: 1                                     # default\n",
           "  steps: 7                                  # --set train.steps=7\n",
           "    - label: a                              # a.yaml:3:15\n",
           "      path: \"x # y\"                         # a.yaml:3:24\n",
           "      format: text                          # default\n",
           "      eval_factor: 3.0                      # a.yaml:5:37\n",
           "      train_factor: 1.25                    # as moe.capacity.train_factor\n",
           "    layers: {every: 2}                      # default\n",
           "\nmoe:\n",
       })
    EXPECT_NE(shown.find(line), std::string::npos) << line << shown;
  // Shown again it is the same, to the byte, and comments are no part of it.
  EXPECT_EQ(to_yaml(read(shown)), to_yaml(config));
  EXPECT_EQ(to_yaml(read(to_yaml(config))), to_yaml(config));
}

TEST(Origins, ALineBreakInAnOverrideStaysInItsComment) {
  const Config config = read("", {"run.dir=\"x\\ny\"", "name='b\n\n c'"});
  EXPECT_EQ(to_yaml(read(to_yaml_with_origins(config))), to_yaml(config));
}

}  // namespace
}  // namespace switchyard
