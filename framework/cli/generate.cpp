#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "cli/trained_model.h"
#include "cli/training_run.h"
#include "cli/verbs.h"
#include "config/resolve.h"
#include "conversion/model_source.h"
#include "data/token_lines.h"
#include "generation/generator.h"
#include "generation/text_stream.h"
#include "registry/choices.h"

namespace switchyard {

namespace {

constexpr int64_t kUsualTokens = 128;

struct GenerateArguments : ConfigArguments {
  std::string prompt, prompts, prompt_ids, checkpoint;
  std::string max_tokens, temperature = "0", top_k, top_p, seed;
  bool no_cache = false;
};

// Which run, and which of its checkpoints.
struct Trained {
  Config config;
  std::filesystem::path checkpoint;
};

Trained find_trained(const GenerateArguments& arguments) {
  const std::filesystem::path path = arguments.path;
  const bool is_run = std::filesystem::is_directory(path);
  if (is_run && is_hugging_face(path, FileSystem::real())) {
    throw ConfigError(
        "it is a model of Hugging Face, not a run", path.string(),
        "make a checkpoint of it: switchyard convert --from " + path.string() + " --to DIR");
  }
  if (is_run && !std::filesystem::exists(path / "config.yaml")) {
    throw ConfigError("the folder has no config.yaml", path.string(),
                      "name a config, the folder of a run, or one of its checkpoints");
  }
  Trained trained{.config = load_config(is_run ? path / "config.yaml" : path, arguments.overrides,
                                        choice_tables())};
  std::filesystem::path from = is_run ? path : run_directory(trained.config).path;
  if (!arguments.checkpoint.empty()) from = arguments.checkpoint;
  trained.checkpoint = checkpoint_at(from);
  return trained;
}

// No token is dropped on account of others.
void drop_none(Config& config) {
  const auto change = [](CapacityConfig& capacity) {
    capacity.overflow = CapacityConfig::Overflow::kDropless;
  };
  change(config.moe.capacity);
  for (MoeStackConfig* stack :
       {&config.moe.encoder, &config.moe.decoder, &config.moe.decoder_only}) {
    if (stack->capacity) change(*stack->capacity);
  }
}

// None where the run learnt from ids.
std::optional<Tokenizer> tokenizer_of(const Checkpoint& checkpoint) {
  if (checkpoint.manifest().file(kCheckpointTokenizer) == nullptr) return std::nullopt;
  return Tokenizer::from_bytes(checkpoint.read_file(kCheckpointTokenizer),
                               (checkpoint.path() / kCheckpointTokenizer).string());
}

// What the model's ids mean.
//   rows  of its embedding table
Vocabulary ids_of(const Config& config, const std::optional<Tokenizer>& tokenizer, int64_t rows) {
  if (!tokenizer && !config.data.vocabulary) {
    throw ConfigError(
        "nothing says which id ends an answer: the checkpoint has no tokenizer, its "
        "config no data.vocabulary",
        "", "add --set 'data.vocabulary={size: ..., pad: ..., eos: ...}'");
  }
  const Vocabulary ids = tokenizer ? tokenizer->ids() : stated_vocabulary(*config.data.vocabulary);
  if (ids.size > rows) {
    throw ConfigError(
        fmt::format("there are {} ids, the model's embedding table has {} rows", ids.size, rows),
        config.origins.of({"data.vocabulary.size"}), "state data.vocabulary as it was in training");
  }
  return ids;
}

void check_source_of_prompts(const GenerateArguments& arguments) {
  const int sources = static_cast<int>(!arguments.prompt.empty()) +
                      static_cast<int>(!arguments.prompts.empty()) +
                      static_cast<int>(!arguments.prompt_ids.empty());
  if (sources == 1) return;
  throw ConfigError(sources == 0 ? "there is no prompt"
                                 : "--prompt, --prompts and --prompt-ids contradict each other",
                    "",
                    "give --prompt TEXT, or --prompts FILE with one prompt a line, or "
                    "--prompt-ids FILE with token ids");
}

// None with --prompt-ids.
std::vector<std::string> texts_of(const GenerateArguments& arguments) {
  if (!arguments.prompt_ids.empty()) return {};
  if (!arguments.prompt.empty()) return {arguments.prompt};
  std::ifstream file(arguments.prompts);
  if (!file) {
    throw InputError("the file of prompts can't be read", arguments.prompts,
                     "name a text file with one prompt a line");
  }
  std::vector<std::string> prompts;
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with('\r')) line.pop_back();
    prompts.push_back(line);
  }
  if (prompts.empty()) {
    throw InputError("the file has no prompt", arguments.prompts, "write one prompt a line");
  }
  return prompts;
}

// What the model reads of each prompt, and how long answers are.
class PromptReader {
 public:
  using Prompts = std::vector<std::vector<int32_t>>;

  explicit PromptReader(const Config& config) : config_(config) {}

  //   file  empty: the text is that of --prompt
  Prompts encode(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                 const std::string& file) const {
    Prompts all;
    for (const std::string& text : texts) {
      const std::string where =
          file.empty() ? "--prompt" : fmt::format("{}:{}", file, all.size() + 1);
      std::vector<int32_t> ids = goes_on() ? tokenizer.encode_plain(text) : tokenizer.encode(text);
      if (ids.empty()) throw InputError("the prompt is empty", where, "write some text");
      if (tokenizer.beginning()) ids.insert(ids.begin(), *tokenizer.beginning());
      if (const auto eos = tokenizer.ids().eos; eos && !goes_on()) ids.push_back(*eos);
      check_length(ids, where);
      all.push_back(std::move(ids));
    }
    return all;
  }

  // Ids as they stand.
  Prompts read(const std::string& file, int64_t vocabulary) const {
    Prompts all;
    for (GivenTokens& given : read_token_lines(file, TokenLineKeys::kPrompt, vocabulary)) {
      check_length(given.input_ids, fmt::format("{}, prompt {}", file, all.size() + 1));
      all.push_back(std::move(given.input_ids));
    }
    return all;
  }

  // Tokens of an answer at most. Throws ConfigError where there is no room for `wanted`.
  int64_t max_tokens(const Prompts& prompts, const std::string& wanted) const {
    int64_t room = 1 << 16;  // T5's distances have no end
    if (config_.model.is_decoder_only()) {
      room = resolve_shorter_length(config_);
      for (const auto& ids : prompts) {
        room = std::min(room, resolve_shorter_length(config_) - std::ssize(ids));
      }
    }
    if (wanted.empty()) return std::min(room, kUsualTokens);
    const int64_t tokens = parse_count("--max-tokens", wanted);
    if (tokens >= 1 && tokens <= room) return tokens;
    throw ConfigError(
        fmt::format("--max-tokens {} is out of range: behind the longest prompt there is room for "
                    "{} tokens",
                    tokens, room),
        "", fmt::format("allowed: 1 to {}", room));
  }

 private:
  // Whether the answer goes on from the prompt, as running text does.
  bool goes_on() const { return config_.data.uses(DataTask::kCausal); }
  int64_t longest_prompt() const {
    return goes_on() ? config_.data.length - 1 : config_.data.inputs_length;
  }
  void check_length(const std::vector<int32_t>& ids, const std::string& where) const {
    if (std::ssize(ids) <= longest_prompt()) return;
    throw InputError(
        fmt::format("the prompt has {} tokens, the model takes {}", ids.size(), longest_prompt()),
        where,
        fmt::format("shorten it, or set a larger {}",
                    goes_on() ? "data.length" : "data.inputs_length"));
  }

  const Config& config_;
};

SamplingOptions sampling_of(const GenerateArguments& arguments) {
  SamplingOptions options;
  options.temperature = parse_number("--temperature", arguments.temperature, 0, 100);
  const std::pair<const char*, const std::string&> drawn[] = {
      {"--top-k", arguments.top_k}, {"--top-p", arguments.top_p}, {"--seed", arguments.seed}};
  for (const auto& [flag, value] : drawn) {
    if (value.empty() || options.temperature > 0) continue;
    throw ConfigError(fmt::format("{} has no effect at --temperature 0, which always takes the "
                                  "best token",
                                  flag),
                      "", "add --temperature 1, or leave it out");
  }
  if (!arguments.top_k.empty()) {
    options.top_k = parse_count("--top-k", arguments.top_k);
    if (options.top_k == 0) {
      throw ConfigError("--top-k 0 leaves no token", "", "give 1 or more, or leave it out");
    }
  }
  if (!arguments.top_p.empty()) {
    options.top_p = parse_number("--top-p", arguments.top_p, 1e-6, 1);
  }
  if (!arguments.seed.empty()) {
    options.seed = static_cast<uint64_t>(parse_count("--seed", arguments.seed));
  }
  return options;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// One prompt's answer appears as it comes, several ones in the prompts' order.
void answer_texts(Generator& generator, const Tokenizer& tokenizer,
                  const std::vector<std::string>& texts, const PromptReader::Prompts& prompts,
                  bool goes_on, bool prints) {
  const auto stream_of = [&](size_t prompt) {
    return TextStream(tokenizer, goes_on ? prompts[prompt] : std::vector<int32_t>());
  };
  if (prompts.size() == 1) {
    TextStream stream = stream_of(0);  // rank 0 computes prompt 0
    generator.answer(prompts, [&](int64_t, int32_t id) { print(stream.add(id)); });
    if (prints) print(stream.finish() + "\n");
    return;
  }
  const PromptReader::Prompts answers = generator.answer(prompts);
  for (size_t i = 0; i < answers.size() && prints; ++i) {
    TextStream stream = stream_of(i);
    std::string answer;
    for (const int32_t id : answers[i]) answer += stream.add(id);
    print(fmt::format("> {}\n{}{}\n\n", texts[i], answer, stream.finish()));
  }
}

void answer_ids(Generator& generator, const PromptReader::Prompts& prompts, bool prints) {
  const PromptReader::Prompts answers = generator.answer(prompts);
  for (size_t i = 0; i < answers.size() && prints; ++i) {
    print(fmt::format("{{\"input_ids\": [{}], \"output_ids\": [{}]}}\n",
                      fmt::join(prompts[i], ", "), fmt::join(answers[i], ", ")));
  }
}

void generate(const GenerateArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const SamplingOptions sampling = sampling_of(arguments);
  check_source_of_prompts(arguments);
  const std::vector<std::string> texts = texts_of(arguments);
  Trained trained = find_trained(arguments);
  Config& config = trained.config;
  const Checkpoint checkpoint = Checkpoint::open(trained.checkpoint);
  const std::optional<Tokenizer> tokenizer = tokenizer_of(checkpoint);
  if (!texts.empty() && !tokenizer) {
    throw InputError("the checkpoint has no tokenizer: its model knows token ids, not text",
                     trained.checkpoint.string(),
                     "give --prompt-ids FILE, a line {\"input_ids\": [17, 4]} for each prompt");
  }
  const int64_t rows = vocabulary_of(checkpoint, config);
  const Vocabulary ids = ids_of(config, tokenizer, rows);
  const PromptReader reader(config);
  const PromptReader::Prompts prompts = texts.empty()
                                            ? reader.read(arguments.prompt_ids, ids.size)
                                            : reader.encode(*tokenizer, texts, arguments.prompts);

  Generator::Options options{
      .sampling = sampling,
      .decoding = {.has_encoder = !config.model.is_decoder_only(),
                   .encoder_length = config.data.inputs_length,
                   .max_tokens = reader.max_tokens(prompts, arguments.max_tokens)},
      .cached = !arguments.no_cache};
  free_of_layout(config);
  drop_none(config);
  ModelParts parts(config, rows, world, resolve_threads(config, job.ranks_on_this_node()));
  checkpoint.load(parts.weights, world);
  Generator generator(*parts.kernels, parts.groups, *parts.model, ids, options);
  const bool prints = world.rank() == 0;
  if (texts.empty()) return answer_ids(generator, prompts, prints);
  answer_texts(generator, *tokenizer, texts, prompts, !options.decoding.has_encoder, prints);
}

}  // namespace

void add_generate(CommandLine& line) {
  auto arguments = std::make_shared<GenerateArguments>();
  auto verb = line.verb("generate", "Write answers to prompts with a trained model");
  verb.positional("CONFIG", arguments->path, "YAML file of the run, or the run's folder")
      .repeated("--set", arguments->overrides, "KEY=VALUE",
                "Overrides a key: --set train.steps=100")
      .option("--prompt", arguments->prompt, "TEXT", "One prompt; its answer appears as it comes")
      .option("--prompts", arguments->prompts, "FILE", "Prompts, one a line, answered together")
      .option("--prompt-ids", arguments->prompt_ids, "FILE",
              "Prompts of token ids, a line {\"input_ids\": [17, 4]} for each; so are the answers")
      .option("--max-tokens", arguments->max_tokens, "N",
              "Tokens of an answer at most; default 128, or what there is room for")
      .option("--temperature", arguments->temperature, "T",
              "Logits are divided by it before a draw; default 0: always the best token")
      .option("--top-k", arguments->top_k, "K", "Draw from the K best tokens only")
      .option("--top-p", arguments->top_p, "P",
              "Draw from the best tokens that together have this probability only")
      .option("--seed", arguments->seed, "N", "Of the draws; default 0")
      .option("--checkpoint", arguments->checkpoint, "DIR",
              "A run's folder or one of its checkpoints; default: the latest of the run")
      .flag("--no-cache", arguments->no_cache,
            "Compute every token from the beginning: slower, for comparison")
      .example("switchyard generate runs/quickstart --prompt 'The file <extra_id_0> not exist.'")
      .runs([arguments] { run_in_job([&](Job& job) { generate(*arguments, job); }); });
}

}  // namespace switchyard
