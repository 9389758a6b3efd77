// Wrong configs: what each is told, where, and what to do. Columns were counted by hand.
#include <algorithm>

#include "test_tables.h"

namespace switchyard {
namespace {

struct Wrong {
  const char* name;
  std::string yaml;
  std::string what, where, advice;
  std::vector<std::string> overrides = {};
};

void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.yaml; }

class WrongConfig : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongConfig, IsToldInThreeLinesWithItsPlace) {
  const Wrong& wrong = GetParam();
  const ConfigError error = error_of(wrong.yaml, wrong.overrides);
  EXPECT_EQ(error.summary(), wrong.what);
  EXPECT_EQ(error.where(), wrong.where);
  EXPECT_EQ(error.advice(), wrong.advice);
  EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
  const std::string text = error.what();
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 2);
}

const Wrong kKeys[] = {
    {"misspelt", "moe:\n  experts: 8\n  capacity:\n    train_facter: 1.5\n",
     "unknown key 'moe.capacity.train_facter'", "a.yaml:4:5", "did you mean 'train_factor'?"},
    {"swapped_letters", "train:\n  setps: 10\n", "unknown key 'train.setps'", "a.yaml:2:3",
     "did you mean 'steps'?"},
    {"hyphen", "train:\n  batch-sequences: 8\n", "unknown key 'train.batch-sequences'",
     "a.yaml:2:3", "did you mean 'batch_sequences'?"},
    {"section", "modle:\n  d_model: 32\n", "unknown key 'modle'", "a.yaml:1:1",
     "did you mean 'model'?"},
    {"other_section", "train:\n  d_model: 32\n", "unknown key 'train.d_model'", "a.yaml:2:3",
     "did you mean 'model.d_model'?"},
    {"nothing_close", "parallel:\n  zebra: 1\n", "unknown key 'parallel.zebra'", "a.yaml:2:3",
     "its keys: expert, threads"},
    {"nothing_close_at_top", "zebra: 1\n", "unknown key 'zebra'", "a.yaml:1:1",
     "the config's keys: base, name, seed, device, model, moe, data, train, optimizer, schedule, "
     "parallel, run"},
    {"in_a_list", "data:\n  sources:\n    - label: en\n      path: x\n      fromat: man\n",
     "unknown key 'data.sources[0].fromat'", "a.yaml:5:7", "did you mean 'format'?"},
    {"in_flow_style", "moe: {capacity: {min_token: 2}}\n", "unknown key 'moe.capacity.min_token'",
     "a.yaml:1:18", "did you mean 'min_tokens'?"},
    {"option_of_a_choice", "optimizer:\n  type: adamw\n  beta: 0.5\n",
     "unknown key 'optimizer.beta'", "a.yaml:3:3", "did you mean 'beta1'?"},
    {"option_of_another_type", "moe:\n  encoder:\n    router: {type: top_k, jitter: 0.1}\n",
     "unknown key 'moe.encoder.router.jitter'", "a.yaml:3:27",
     "it is an option of another 'type' of moe.encoder.router"},
    {"duplicate", "train:\n  steps: 5\n  log_every: 1\n  steps: 6\n", "duplicate key 'steps'",
     "a.yaml:4:3", "it is already given at a.yaml:2:3: remove one of the two"},
};

const Wrong kValues[] = {
    {"text_for_integer", "train:\n  steps: ten\n", "train.steps = ten has the wrong type",
     "a.yaml:2:10", "expected: integer, 1 to 1073741824 steps"},
    {"real_for_integer", "train:\n  steps: 1.5\n", "train.steps = 1.5 has the wrong type",
     "a.yaml:2:10", "expected: integer, 1 to 1073741824 steps"},
    {"quoted_integer", "model:\n  heads: \"4\"\n", "model.heads = \"4\" has the wrong type",
     "a.yaml:2:10", "expected: integer, 1 to 1024 heads; without the quotes"},
    {"list_for_integer", "seed: [1, 2]\n", "seed = a list has the wrong type", "a.yaml:1:7",
     "expected: integer, 0 to 9007199254740991"},
    {"text_for_real", "model:\n  dropout: low\n", "model.dropout = low has the wrong type",
     "a.yaml:2:12", "expected: number, 0 to 0.95 probability"},
    {"nan", "model:\n  dropout: .nan\n", "model.dropout = .nan has the wrong type", "a.yaml:2:12",
     "expected: number, 0 to 0.95 probability"},
    {"nan_bare", "model:\n  dropout: nan\n", "model.dropout = nan has the wrong type",
     "a.yaml:2:12", "expected: number, 0 to 0.95 probability"},
    {"yes_for_true", "model:\n  tie_embeddings: yes\n",
     "model.tie_embeddings = yes has the wrong type", "a.yaml:2:19",
     "expected: true or false (not yes, no, on, off)"},
    {"wrong_word", "moe:\n  group_sequences: some\n",
     "moe.group_sequences = some has the wrong type", "a.yaml:2:20",
     "expected: integer or auto, 1 to 16777216 sequences"},
    {"section_for_value", "train:\n  steps:\n    many: 1\n",
     "train.steps = a section has the wrong type", "a.yaml:3:5",
     "expected: integer, 1 to 1073741824 steps"},
    {"value_for_section", "moe:\n  capacity: 1.25\n", "moe.capacity is a section, not a value",
     "a.yaml:2:13", "put its keys on the lines below, indented"},
    {"list_for_section", "train: [1]\n", "train is a section, not a list", "a.yaml:1:8",
     "put its keys on the lines below, indented"},
    {"value_for_list", "data:\n  sources: x\n", "data.sources is a list of sections", "a.yaml:2:12",
     "begin each of them with '- ' on its own line"},
    {"value_for_choice", "optimizer: adamw\n", "optimizer is a section, not a value", "a.yaml:1:12",
     "put its keys on the lines below, indented"},
    {"nothing", "train:\n  steps:\n  log_every: 1\n", "train.steps has no value", "a.yaml:2:3",
     "expected: integer; or remove the key"},
    {"whole_file_a_list", "- 1\n", "the config is a section, not a list", "a.yaml:1:1",
     "put its keys on the lines below, indented"},
    {"below_range", "train:\n  steps: 0\n", "train.steps = 0 is out of range", "a.yaml:2:10",
     "allowed: 1 to 1073741824 steps"},
    {"above_range", "moe:\n  capacity: {train_factor: 65}\n",
     "moe.capacity.train_factor = 65 is out of range", "a.yaml:2:28", "allowed: 0.1 to 64 ratio"},
    {"negative", "model: {d_ff: -4}\n", "model.d_ff = -4 is out of range", "a.yaml:1:15",
     "allowed: 1 to 1048576 features"},
    {"beyond_int64", "seed: 99999999999999999999\n", "seed = 99999999999999999999 is out of range",
     "a.yaml:1:7", "allowed: 0 to 9007199254740991"},
    {"beyond_double", "model: {init_scale: 1e999}\n", "model.init_scale = 1e999 is out of range",
     "a.yaml:1:21", "allowed: 1e-06 to 100 ratio"},
    {"octal", "train:\n  steps: 010\n",
     "train.steps = 010: a number that begins with 0 is octal to some readers of YAML",
     "a.yaml:2:10", "write 10"},
    {"octal_new_style", "seed: 0o17\n",
     "seed = 0o17: a number that begins with 0 is octal to some readers of YAML", "a.yaml:1:7",
     "write it in decimal, without a leading 0"},
    {"not_one_of", "moe: {capacity: {rounding: up}}\n", "moe.capacity.rounding = up is not known",
     "a.yaml:1:28", "one of: ceil, floor"},
    {"nearly_one_of", "model: {activation: rleu}\n", "model.activation = rleu is not known",
     "a.yaml:1:21", "did you mean 'relu'? one of: relu, gelu, silu, relu2"},
    {"unknown_model", "model: {type: switch_t6}\n", "model.type = switch_t6 is not known",
     "a.yaml:1:15", "did you mean 'switch_t5'? one of: switch_t5"},
    {"unknown_choice", "moe:\n  decoder:\n    router:\n      type: swich\n",
     "moe.decoder.router.type = swich is not known", "a.yaml:4:13",
     "did you mean 'switch'? one of: switch, top_k"},
    {"not_yet_there", "moe: {capacity: {overflow: dropless}}\n",
     "moe.capacity.overflow = dropless is not known", "a.yaml:1:28", "one of: drop"},
    {"layers_word", "moe:\n  encoder:\n    layers: some\n",
     "moe.encoder.layers = some has the wrong type", "a.yaml:3:13",
     "expected: none, all, {every: n} or a list of layers like [1, 3], 0 to 1023"},
    {"layers_every_zero", "moe:\n  encoder:\n    layers: {every: 0}\n",
     "moe.encoder.layers.every = 0 is out of range", "a.yaml:3:21", "allowed: 1 to 1024"},
    {"layers_twice", "moe:\n  encoder:\n    layers: [1, 3, 1]\n",
     "moe.encoder.layers lists layer 1 twice", "a.yaml:3:20", "remove one of the two"},
};

const Wrong kYaml[] = {
    {"anchor", "seed: &s 1\n", "'&' names a value for later use, which a config can't",
     "a.yaml:1:7", "write the value out where it is needed"},
    {"tag", "train:\n  steps: !!int 5\n",
     "a config has no tags, but here is one: "
     "tag:yaml.org,2002:int",
     "a.yaml:2:10", "remove it: each key has one type"},
    {"merge_key", "train:\n  <<: {steps: 5}\n", "'<<' merges sections, which a config can't",
     "a.yaml:2:3", "write the keys out"},
    {"list_as_key", "? [1]\n: 2\n", "a key must be a word", "a.yaml:1:3", "write 'key: value'"},
    {"empty_key", "? \n: 2\n", "a key must be a word", "a.yaml:2:1", "write 'key: value'"},
    {"two_documents", "seed: 1\n---\nseed: 2\n", "something follows the end of the document",
     "a.yaml:2:1", "remove it: a second document ('---'), or a stray bracket or comma"},
    {"unclosed", "moe: {layers: [1\n", "not valid YAML: end of sequence flow not found",
     "a.yaml:2:1", "look for a missing space, quote or bracket at or before this place"},
    {"tab", "train:\n\tsteps: 1\n", "not valid YAML: illegal map value", "a.yaml:2:7",
     "indent with spaces: this line begins with a tab"},
    {"zero_byte", std::string("seed: 1\n\0", 9), "not a text file: it holds a zero byte", "a.yaml",
     "is this the right file?"},
};

const Wrong kOverrides[] = {
    {"unknown_key",
     "seed: 1\n",
     "unknown key 'moe.capacity.train_facter'",
     "--set moe.capacity.train_facter=1",
     "did you mean 'train_factor'?",
     {"moe.capacity.train_facter=1"}},
    {"out_of_range",
     "train:\n  steps: 5\n",
     "train.steps = 0 is out of range",
     "--set train.steps=0",
     "allowed: 1 to 1073741824 steps",
     {"train.steps=0"}},
    {"no_value",
     "seed: 1\n",
     "an override needs a key and a value",
     "--set train.steps",
     "write it like --set train.steps=100",
     {"train.steps"}},
    {"empty_part",
     "seed: 1\n",
     "an override's key has an empty part",
     "--set train..steps=1",
     "write it like --set train.steps=100",
     {"train..steps=1"}},
    {"below_a_value",
     "train:\n  steps: 5\n",
     "'train.steps' is no section, so it has no 'x'",
     "--set train.steps.x=1",
     "set it whole; what the file gives stands at a.yaml:2:10",
     {"train.steps.x=1"}},
    {"bad_yaml",
     "seed: 1\n",
     "not valid YAML: end of sequence flow not found",
     "--set moe.encoder.layers=[1",
     "look for a missing space, quote or bracket at or before this place",
     {"moe.encoder.layers=[1"}},
};

const Wrong kRules[] = {
    {"tokens_and_factor", "moe:\n  capacity:\n    train_factor: 1.5\n    tokens: 64\n",
     "moe.capacity.train_factor has no effect when 'tokens' sets the room outright", "a.yaml:3:5",
     "remove 'train_factor', or change the other"},
    {"tokens_and_min_tokens", "moe: {capacity: {tokens: 0, min_tokens: 4}}\n",
     "moe.capacity.min_tokens has no effect when 'tokens' sets the room outright", "a.yaml:1:29",
     "remove 'min_tokens', or change the other"},
    {"router_of_a_dense_stack", "moe:\n  encoder:\n    layers: none\n    router: {type: switch}\n",
     "moe.encoder.router has no effect when 'layers' is none", "a.yaml:4:5",
     "remove 'router', or change the other"},
    {"moe_of_a_dense_model",
     "moe:\n  experts: 4\n  encoder: {layers: none}\n  decoder: {layers: none}\n",
     "moe.experts has no effect when encoder and decoder have 'layers: none'", "a.yaml:2:3",
     "remove 'experts', or change the other"},
    {"layer_outside", "model: {encoder_layers: 2}\nmoe:\n  encoder: {layers: [1, 2]}\n",
     "moe.encoder.layers names layer 2, but the encoder has 2 layers", "a.yaml:3:21",
     "layers are counted from 0: the last one is 1"},
    {"every_picks_none", "model:\n  decoder_layers: 1\n",
     "moe.decoder.layers = {every: 2} picks none of the decoder's 1 layer", "a.yaml:2:19",
     "write 'layers: none' for a dense stack, or 'layers: all'"},
    {"float64_on_cpu", "device: cpu\ntrain: {precision: float64}\n",
     "train.precision = float64 needs the reference device, not cpu", "a.yaml:2:20",
     "set device: reference, or precision: float32"},
    {"odd_buckets", "model: {relative_attention: {buckets: 31}}\n",
     "model.relative_attention.buckets = 31 is odd", "a.yaml:1:39",
     "the encoder uses one half for keys before, one for keys after: give an even number"},
    {"short_max_distance", "model: {relative_attention: {max_distance: 16}}\n",
     "model.relative_attention.max_distance = 16 is not beyond the 16 distances that have a bucket "
     "each",
     "a.yaml:1:44", "set it to 17 or more"},
    {"tokenizer_not_padded", "data: {tokenizer: {vocabulary: 5000}}\n",
     "data.tokenizer.vocabulary = 5000 is not a multiple of 128", "a.yaml:1:32",
     "use 4992 or 5120"},
    {"vocabulary_too_small", "model: {vocabulary: 1024}\n",
     "model.vocabulary = 1024 has no room for the tokenizer's 4096 tokens", "a.yaml:1:21",
     "set it to auto, or lower data.tokenizer.vocabulary"},
    {"too_many_sentinels", "data: {inputs_length: 4096}\n",
     "data.inputs_length = 4096 needs 227 sentinels, there are 100", "a.yaml:1:23",
     "shorten it, or set a longer data.corruption.mean_span"},
    {"targets_cut", "data: {inputs_length: 128, targets_length: 20}\n",
     "data.targets_length = 20 would cut targets of up to 29 tokens", "a.yaml:1:44",
     "set it to auto"},
    {"source_without_label", "data:\n  sources:\n    - path: x\n", "data.sources[0] has no label",
     "a.yaml:3:7", "each source needs a label and a path"},
    {"source_without_path", "data: {sources: [{label: a, path: p}, {label: b}]}\n",
     "data.sources[1] has no path", "a.yaml:1:39", "each source needs a label and a path"},
    {"ids_without_vocabulary",
     "data:\n  sources:\n    - label: a\n      path: b\n      format: ids\n",
     "data.sources[0] holds ids, but data.vocabulary isn't stated", "a.yaml:5:15",
     "state data.vocabulary: its size, pad, eos and first_sentinel"},
    {"text_with_vocabulary",
     "data:\n  vocabulary: {size: 100, first_sentinel: 99, sentinels: 30}\n  sources:\n    - "
     "label: a\n"
     "      path: b\n      format: jsonl\n",
     "data.sources[0] holds text, but data.vocabulary says that there is no tokenizer",
     "a.yaml:6:15", "give ids (format: ids), or take data.vocabulary out to train a tokenizer"},
    {"pairs_in_files",
     "data:\n  task: text_to_text\n  sources:\n    - label: a\n      path: b\n      format: man\n",
     "data.sources[0] holds no pairs, which data.task = text_to_text learns from", "a.yaml:6:15",
     "give lines with inputs and targets (format: jsonl or ids), or set data.task: "
     "span_corruption"},
    {"text_key_of_pairs",
     "data:\n  task: text_to_text\n  sources:\n    - {label: a, path: b, format: jsonl, text_key: "
     "c}\n",
     "data.sources[0].text_key has no effect when data.task is text_to_text", "a.yaml:4:52",
     "pairs have inputs_key and targets_key: remove it"},
    {"keys_of_files", "data:\n  sources:\n    - {label: a, path: b, text_key: c}\n",
     "data.sources[0].text_key has no effect when 'format' is not jsonl or ids", "a.yaml:3:27",
     "remove 'text_key', or change the other"},
    {"packing_of_spans", "data:\n  packing: true\n",
     "data.packing has no effect when every task is span_corruption, whose examples fill a "
     "sequence "
     "already",
     "a.yaml:2:3", "remove 'packing', or change the other"},
    {"vocabulary_without_size", "data:\n  vocabulary: {eos: 5}\n", "data.vocabulary has no size",
     "a.yaml:2:15", "state how many ids there are: every id lies below it"},
    {"end_beyond_vocabulary", "data:\n  vocabulary: {size: 5, eos: 5}\n",
     "data.vocabulary.eos = 5 is not below the size 5", "a.yaml:2:30",
     "set it to none, or to an id up to 4"},
    {"no_start", "data:\n  vocabulary: {size: 500, pad: none, eos: none}\n",
     "data.vocabulary has neither pad nor eos", "a.yaml:2:32",
     "give one of them: the decoder has to begin with an id"},
    {"no_sentinels", "data:\n  vocabulary: {size: 500}\n",
     "span corruption needs sentinels, data.vocabulary states none", "a.yaml:2:15",
     "give data.vocabulary.first_sentinel, or set data.task: text_to_text"},
    {"too_many_own_sentinels", "data:\n  vocabulary: {size: 500, first_sentinel: 50}\n",
     "data.vocabulary.sentinels = 100, but only 51 ids descend from 50", "a.yaml:2:43",
     "sentinels are the ids from first_sentinel downwards"},
    {"too_few_own_sentinels",
     "data:\n  inputs_length: 128\n  vocabulary: {size: 500, first_sentinel: 50, sentinels: 3}\n",
     "data.inputs_length = 128 needs 7 sentinels, there are 3", "a.yaml:2:18",
     "shorten it, or set a longer data.corruption.mean_span"},
    {"mixture_without_dir", "data:\n  mixture:\n    - weight: 3\n", "data.mixture[0] has no dir",
     "a.yaml:3:7", "each entry needs the folder of a built dataset"},
    {"mixture_and_dir", "data:\n  dir: x\n  mixture:\n    - dir: y\n",
     "data.dir has no effect when 'mixture' is given: its datasets have configs of their own",
     "a.yaml:2:3", "remove 'dir', or change the other"},
    {"mixture_too_light",
     "data:\n  mixture:\n    - {dir: x, weight: 10000}\n    - {dir: y, weight: 2}\n",
     "data.mixture[1].weight = 2 is less than 1 in 4,096 of the weights", "a.yaml:4:24",
     "raise it, or take the dataset out"},
    {"nothing_to_evaluate_on", "data: {validation_share: 0}\n",
     "train.evaluate_every is set, but data.validation_share = 0 leaves nothing to evaluate on",
     "a.yaml:1:26", "set evaluate_every: none, or hold out a share such as 0.02"},
    {"batch_and_groups", "moe: {group_sequences: 6}\ntrain: {batch_sequences: 64}\n",
     "train.batch_sequences = 64 is not a multiple of moe.group_sequences = 6", "a.yaml:2:26",
     "use 60 or 66 sequences, or groups that divide 64"},
    {"group_beyond_batch", "moe: {group_sequences: 128}\n",
     "train.batch_sequences = 64 is not a multiple of moe.group_sequences = 128", "a.yaml:1:24",
     "use at least 128 sequences, or smaller groups"},
    {"micro_batches_of_parts",
     "moe: {group_sequences: 16}\ntrain: {micro_batches: 3, batch_sequences: 64}\n",
     "3 micro-batches can't share out 4 routing groups of 16 sequences", "a.yaml:2:24",
     "use micro_batches: 1, 2 or 4, or set another moe.group_sequences"},
    {"micro_batches_of_auto_group", "train: {micro_batches: 2}\n",
     "2 micro-batches can't share out 1 routing group of 64 sequences (auto)", "a.yaml:1:24",
     "use micro_batches: 1, or set moe.group_sequences"},
    {"rule_of_a_choice", "train: {steps: 10}\nschedule: {warmup_steps: 11}\n",
     "schedule.warmup_steps is beyond the end", "a.yaml:2:26", "shorten it"},
    {"name_with_a_slash", "name: a/b\n", "name = 'a/b' can't name a folder", "a.yaml:1:7",
     "leave '/' out; run.dir says where runs go"},
};

std::string case_name(const ::testing::TestParamInfo<Wrong>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Keys, WrongConfig, ::testing::ValuesIn(kKeys), case_name);
INSTANTIATE_TEST_SUITE_P(Values, WrongConfig, ::testing::ValuesIn(kValues), case_name);
INSTANTIATE_TEST_SUITE_P(Yaml, WrongConfig, ::testing::ValuesIn(kYaml), case_name);
INSTANTIATE_TEST_SUITE_P(Overrides, WrongConfig, ::testing::ValuesIn(kOverrides), case_name);
INSTANTIATE_TEST_SUITE_P(Rules, WrongConfig, ::testing::ValuesIn(kRules), case_name);

}  // namespace
}  // namespace switchyard
