#include <algorithm>
#include <filesystem>
#include <random>

#include "config/key_docs.h"
#include "config/suggest.h"
#include "config/yaml_node.h"
#include "test_tables.h"

namespace switchyard {
namespace {

TEST(ReadConfig, EmptyGivesTheDefaults) {
  const Config config = read("# nothing but a comment\n");
  EXPECT_EQ(config.name, "a");
  EXPECT_EQ(config.moe.capacity.train_factor, 1.25);
  EXPECT_EQ(config.moe.encoder.router.as<TestSwitch>().jitter, 0.01);
  EXPECT_FALSE(config.origins.given("name"));
  EXPECT_TRUE(config.origins.all().empty());
}

TEST(ReadConfig, EachKindOfValue) {
  const Config config = read(R"(
name: "no"
seed: 7
model: {tie_embeddings: false, activation: relu2, norm_epsilon: 1e-5, dropout: 0}
moe:
  group_sequences: 8
  capacity:   # all keys commented out
  encoder:
    layers: [3, 0]
    router: {type: top_k, k: 3}
  decoder:
    layers: {every: 1}
train: {clip_norm: none, evaluate_every: 50, on_nonfinite: skip}
checkpoint: {every: 5, partial: [lm_head, '*.router']}
data:
  sources:
    - {label: no, path: 'man pages', format: gzip}
    - label: de
      path: x/de
)");
  EXPECT_EQ(config.name, "no");
  EXPECT_EQ(config.seed, 7);
  EXPECT_FALSE(config.model.tie_embeddings);
  EXPECT_EQ(config.model.activation, ModelConfig::Activation::kRelu2);
  EXPECT_EQ(config.model.norm_epsilon, 1e-5);
  EXPECT_EQ(config.model.dropout, 0.0);
  EXPECT_EQ(config.moe.group_sequences, 8);
  EXPECT_EQ(config.moe.encoder.layers, LayerSet::list({0, 3}));
  EXPECT_EQ(config.moe.encoder.router.as<TestTopK>().k, 3);
  EXPECT_EQ(config.moe.decoder.layers, LayerSet::every(1));
  EXPECT_EQ(config.moe.decoder.router.type, "switch");
  EXPECT_FALSE(config.train.clip_norm.has_value());
  EXPECT_EQ(config.train.on_nonfinite, TrainConfig::OnNonfinite::kSkip);
  EXPECT_EQ(config.checkpoint.partial, (std::vector<std::string>{"lm_head", "*.router"}));
  ASSERT_EQ(config.data.sources.size(), 2u);
  EXPECT_EQ(config.data.sources[0].label, "no");
  EXPECT_EQ(config.data.sources[0].format, SourceConfig::Format::kGzip);
  EXPECT_EQ(config.data.sources[1].format, SourceConfig::Format::kText);
  EXPECT_EQ(config.origins.of({"moe.encoder.router.k"}), "a.yaml:10:30");
  EXPECT_EQ(config.origins.of({"data.sources[1].path"}), "a.yaml:19:13");
}

TEST(ReadConfig, AStacksCapacityTakesTheRestFromTheSharedOne) {
  const Config config = read(R"(
moe:
  encoder: {capacity: {eval_factor: 3.0}}
  capacity: {train_factor: 1.5}
)");
  ASSERT_TRUE(config.moe.encoder.capacity.has_value());
  EXPECT_EQ(config.moe.capacity_of(config.moe.encoder).train_factor, 1.5);
  EXPECT_EQ(config.moe.capacity_of(config.moe.encoder).eval_factor, 3.0);
  EXPECT_FALSE(config.moe.decoder.capacity.has_value());
  EXPECT_EQ(config.moe.capacity_of(config.moe.decoder).eval_factor, 2.0);
}

TEST(ReadConfig, OverridesStandForTheFile) {
  const Config config = read("train:\n  steps: 5\n",
                             {"train.steps=6", "train.steps=7", "moe.encoder.layers={every: 1}",
                              "optimizer={type: adamw, beta1: 0.5}", "name=x y",
                              "moe.capacity.tokens=64", "moe.capacity.tokens=none"});
  EXPECT_EQ(config.train.steps, 7);
  EXPECT_EQ(config.moe.encoder.layers, LayerSet::every(1));
  EXPECT_EQ(config.optimizer.as<TestAdam>().beta1, 0.5);
  EXPECT_EQ(config.name, "x y");
  EXPECT_FALSE(config.moe.capacity.tokens.has_value());
  EXPECT_EQ(config.origins.of({"train.steps"}), "--set train.steps=7");
  EXPECT_EQ(config.origins.of({"optimizer.beta1"}), "--set optimizer={type: adamw, beta1: 0.5}");
}

TEST(ReadConfig, ACopyHasItsOwnOptions) {
  const Config config = read("optimizer: {beta1: 0.25}\n");
  Config copy = config;
  dynamic_cast<TestAdam&>(*copy.optimizer.options).beta1 = 0.5;
  EXPECT_EQ(config.optimizer.as<TestAdam>().beta1, 0.25);
  EXPECT_THROW(copy.optimizer.as<TestSwitch>(), Error);
}

TEST(ReadConfig, MissingFileAndFolder) {
  const auto folder = std::filesystem::temp_directory_path();
  try {
    load_config("/nowhere/x.yaml", {}, test_tables());
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "there is no such config\n  at /nowhere/x.yaml\n"
                 "  give the path of a YAML file, such as configs/quickstart.yaml");
  }
  EXPECT_THROW(load_config(folder, {}, test_tables()), ConfigError);
}

// Every text must come back as it was, whatever it looks like to YAML.
TEST(WriteConfig, TextsComeBack) {
  for (const char* text :
       {"plain",  "true",  "No",          "12",        "a: b",        "# x",  " lead",
        "trail ", "\"q\"", "back\\slash", "tab\there", "line\nbreak", "it's", "- x",
        "{a}",    "é—漢",  "*star",       "&and",      "!bang",       "~",    "null",
        "a #b",   "%x",    "@x",          "`x`",       "1e5",         "none", "/abs/path.txt",
        ".",      "-",     "?",           "\x7f"}) {
    Config config = read("data: {sources: [{label: x, path: y}]}\n");
    config.data.sources[0].path = text;
    const Config again = read(to_yaml(config));
    EXPECT_EQ(again.data.sources[0].path, text) << to_yaml(config);
  }
}

TEST(WriteConfig, ReadsBackToTheSameWithEveryKey) {
  const char* const kConfigs[] = {
      "",
      "seed: 3\nmoe: {capacity: {tokens: 0}, encoder: {layers: none}}\n",
      "moe: {encoder: {layers: none}, decoder: {layers: none}}\n",
      "moe: {capacity: {train_factor: 1.1}, decoder: {layers: [0, 2], capacity: {tokens: 5}, "
      "router: {type: top_k, normalize: false}}}\n",
      "moe: {capacity: {tokens: 5}, decoder: {capacity: {tokens: none, train_factor: 3}}}\n",
      "moe: {expert_dropout: 0.4, capacity: {priority: probability}, losses: {load_balance: "
      "{scope: "
      "global, two_pass: true}}, decoder: {capacity: {priority: random}}}\n",
      "model: {norm_epsilon: 1.0000000000000002e-6, dropout: 0.30000000000000004}\n",
      "data: {sources: [{label: a, path: b, format: man}, {label: c, path: d}]}\n"
      "schedule: {type: constant, learning_rate: 0.1}\nparallel: {expert: 2, threads: 1}\n",
      "data: {task: text_to_text, packing: true, tokenizer: {model: m}, sources: [{label: a, path: "
      "b, format: jsonl, inputs_key: q}, {path: c, format: jsonl, label_key: l}]}\n",
      "data: {vocabulary: {size: 300, pad: none, eos: 7, first_sentinel: 299}, sources: [{label: "
      "a, "
      "path: b, format: ids}]}\n",
      "checkpoint: {every: 5, keep: 3, keep_every: 10, async: true, fallback: true, partial: [a.b, "
      "'*.c']}\n",
      "data: {packing: true, mixture: [{dir: a, weight: 2.5}, {dir: b, task: text_to_text}]}\n",
  };
  for (const char* text : kConfigs) {
    const Config config = read(text);
    const std::string written = to_yaml(config);
    const Config again = parse_config(written, "b.yaml", {}, test_tables());
    EXPECT_EQ(to_yaml(again), written);
    EXPECT_EQ(again.name, "a");
    EXPECT_EQ(again.model.norm_epsilon, config.model.norm_epsilon);
    EXPECT_EQ(again.model.dropout, config.model.dropout);
    EXPECT_EQ(again.moe.capacity.tokens, config.moe.capacity.tokens);
    EXPECT_EQ(again.moe.encoder.layers, config.moe.encoder.layers);
    EXPECT_EQ(again.moe.decoder.layers, config.moe.decoder.layers);
    EXPECT_EQ(again.moe.decoder.router.type, config.moe.decoder.router.type);
    EXPECT_EQ(again.moe.capacity_of(again.moe.decoder).train_factor,
              config.moe.capacity_of(config.moe.decoder).train_factor);
    EXPECT_EQ(again.data.sources.size(), config.data.sources.size());
    EXPECT_EQ(again.checkpoint.keep_every, config.checkpoint.keep_every);
    EXPECT_EQ(again.checkpoint.partial, config.checkpoint.partial);
    EXPECT_EQ(again.data.mixture.size(), config.data.mixture.size());
    EXPECT_EQ(again.data.vocabulary.has_value(), config.data.vocabulary.has_value());
  }
}

TEST(WriteConfig, LooksAsAPersonWouldWriteIt) {
  const std::string text =
      to_yaml(read("data: {sources: [{label: a, path: b}]}\nmoe: {encoder: {layers: [1, 3]}}\n"));
  EXPECT_NE(text.find("\nmoe:\n  experts: 8\n  shared_experts: 0\n  expert_dropout: auto\n  "
                      "group_sequences: auto\n"
                      "  dispatch: alltoall\n  overlap_chunks: 1\n  wire_dtype: same\n"
                      "  capacity:\n    train_factor: 1.25\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("  sources:\n    - label: a\n      path: b\n      format: text\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("    layers: [1, 3]\n    router:\n      type: switch\n"), std::string::npos)
      << text;
}

TEST(Help, AKey) {
  EXPECT_EQ(help_text("moe.capacity.train_factor", test_tables()),
            "moe.capacity.train_factor\n"
            "  Room per expert over the mean number of tokens per expert, in training.\n"
            "  type      number\n"
            "  default   1.25\n"
            "  unit      ratio\n"
            "  range     0.1 to 64\n"
            "  no effect when 'tokens' sets the room outright, or 'overflow' is dropless\n");
}

TEST(Help, AnOptionOfAChoiceAndItsTypes) {
  const std::string option = help_text("moe.encoder.router.k", test_tables());
  EXPECT_NE(option.find("only with type: top_k"), std::string::npos) << option;
  const std::string type = help_text("moe.encoder.router.type", test_tables());
  EXPECT_NE(type.find("    top_k: The K best.\n"), std::string::npos) << type;
}

TEST(Help, SectionsListTheirKeys) {
  const std::string capacity = help_text("moe.capacity", test_tables());
  EXPECT_NE(capacity.find("\n  min_tokens "), std::string::npos) << capacity;
  EXPECT_EQ(capacity.find("experts:"), std::string::npos) << capacity;
  const std::string sources = help_text("data.sources", test_tables());
  EXPECT_NE(sources.find("\n  label "), std::string::npos) << sources;
  const std::string top = help_text("", test_tables());
  EXPECT_NE(top.find("  moe: "), std::string::npos) << top;
}

TEST(Help, UnknownKeysGetASuggestion) {
  const auto advice = [](const std::string& path) {
    try {
      help_text(path, test_tables());
    } catch (const ConfigError& error) {
      return error.advice();
    }
    return std::string("no error");
  };
  EXPECT_EQ(advice("moe.capacity.train_facter"), "did you mean 'moe.capacity.train_factor'?");
  EXPECT_EQ(advice("eval_factor"), "did you mean 'moe.capacity.eval_factor'?");
  EXPECT_EQ(advice("zzzzzzzzz"), "`switchyard help` lists the sections");
}

// Each key says what it is; a range or names wherever there is a number or a word.
TEST(Help, EveryKeyIsDescribed) {
  for (const KeyDoc& doc : document_keys(test_tables())) {
    EXPECT_FALSE(doc.meaning.empty()) << doc.path;
    if (doc.section) continue;
    EXPECT_FALSE(doc.type.empty()) << doc.path;
    EXPECT_FALSE(doc.default_value.empty()) << doc.path;
    if (doc.type.find("integer") == 0 || doc.type.find("number") == 0) {
      EXPECT_FALSE(doc.range.empty()) << doc.path;
    }
  }
}

TEST(Suggest, Distances) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("setps", "steps"), 1u);
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);  // the restricted form's known answer
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("D-Model", "d_model"), 0u);
  EXPECT_EQ(closest("zebra", {"steps", "seed"}), "");
  EXPECT_EQ(closest(std::string(5000, 'x'), {"steps"}), "");
}

TEST(HostileYaml, EndsQuicklyWithAnErrorOrAValue) {
  for (const char* piece :
       {"[",           "{",    "- ",   "? ",    "\"",   "'",    "a: ",          "a:\n", "!",
        "&a ",         "*a ",  "[a: ", "{a: {", "%Y\n", "|",    "- - ",         "? - ", "[,",
        "{,",          ",",    "]",    "}",     ": ",   "\xff", "\xef\xbb\xbf", "\r",   "\t",
        "%YAML 9.9\n", "---\n"}) {
    for (const size_t times : {1, 2, 63, 65, 20000}) {
      std::string text;
      for (size_t i = 0; i < times; ++i) text += piece;
      try {
        parse_yaml(text, "x");
      } catch (const ConfigError& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      }
    }
  }
  std::string keys;
  for (int i = 0; i < 100'000; ++i) keys += "k" + std::to_string(i) + ":\n";
  EXPECT_THROW(parse_yaml(keys, "x"), ConfigError);
  EXPECT_THROW(parse_yaml(std::string(kMaxYamlBytes + 1, ' '), "x"), ConfigError);
}

TEST(HostileYaml, DepthIsLimited) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_yaml(nested(kMaxYamlDepth), "x"));
  try {
    parse_yaml(nested(kMaxYamlDepth + 1), "x");
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.summary(), "nested deeper than 64 levels");
    EXPECT_EQ(error.where(), "x:1:65");
  }
}

// Random damage to a real config: it reads, or a ConfigError of at most three lines says why not.
TEST(HostileYaml, RandomEditsOfARealConfig) {
  const std::string real = to_yaml(read("data: {sources: [{label: a, path: b}]}\n"));
  const std::string pieces = ":{}[],&*!|>'\"%@`#-? \n\t0x~<=\\a\xc3\x28";
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string text = real;
    for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 10);
      } else {
        text.insert(at, 1, pieces[random() % pieces.size()]);
      }
    }
    try {
      read(text);
    } catch (const ConfigError& error) {
      ++refused;
      const std::string lines = error.what();
      EXPECT_LE(std::count(lines.begin(), lines.end(), '\n'), 2) << lines;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace switchyard
