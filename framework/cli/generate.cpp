#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "cli/training_run.h"
#include "cli/verbs.h"
#include "config/resolve.h"
#include "generation/generator.h"
#include "generation/text_stream.h"
#include "registry/choices.h"

namespace switchyard {

namespace {

constexpr int64_t kUsualTokens = 128;

struct GenerateArguments : ConfigArguments {
  std::string prompt, prompts, checkpoint;
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

// What of the run's layout and capacities has no say here: any number of ranks will do, and no
// token is dropped on account of others.
void free_of_training(Config& config) {
  config.parallel.expert.reset();
  config.parallel.expert_tensor = 1;
  config.moe.dispatch = MoeConfig::Dispatch::kAllToAll;
  config.train.reduction = TrainConfig::Reduction::kFast;
  const auto drop_none = [](CapacityConfig& capacity) {
    capacity.overflow = CapacityConfig::Overflow::kDropless;
  };
  drop_none(config.moe.capacity);
  for (MoeStackConfig* stack :
       {&config.moe.encoder, &config.moe.decoder, &config.moe.decoder_only}) {
    if (stack->capacity) drop_none(*stack->capacity);
  }
}

Tokenizer tokenizer_of(const std::filesystem::path& checkpoint) {
  const std::filesystem::path file = checkpoint / kCheckpointTokenizer;
  if (!std::filesystem::exists(file)) {
    throw CheckpointError("the checkpoint has no tokenizer: its run learnt from ids", file.string(),
                          "text can't be turned into tokens: use a run that learnt from text");
  }
  return Tokenizer::load(file);
}

std::vector<std::string> prompts_of(const GenerateArguments& arguments) {
  if (arguments.prompt.empty() == arguments.prompts.empty()) {
    throw ConfigError(arguments.prompt.empty() ? "there is no prompt"
                                               : "--prompt and --prompts contradict each other",
                      "", "give --prompt TEXT, or --prompts FILE with one prompt a line");
  }
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
  PromptReader(const Config& config, const Tokenizer& tokenizer)
      : config_(config), tokenizer_(tokenizer) {}

  std::vector<std::vector<int32_t>> encode(const std::vector<std::string>& prompts,
                                           const std::string& file) const {
    std::vector<std::vector<int32_t>> all;
    for (const std::string& prompt : prompts) {
      const std::string where =
          file.empty() ? "--prompt" : fmt::format("{}:{}", file, all.size() + 1);
      std::vector<int32_t> ids =
          goes_on() ? tokenizer_.encode_plain(prompt) : tokenizer_.encode(prompt);
      if (ids.empty()) throw InputError("the prompt is empty", where, "write some text");
      if (!goes_on()) ids.push_back(kEosId);
      if (std::ssize(ids) > longest_prompt()) {
        throw InputError(fmt::format("the prompt has {} tokens, the model takes {}", ids.size(),
                                     longest_prompt()),
                         where, fmt::format("shorten it, or set a larger {}", length_key()));
      }
      all.push_back(std::move(ids));
    }
    return all;
  }

  // Tokens of an answer at most. Throws ConfigError where there is no room for `wanted`.
  int64_t max_tokens(const std::vector<std::vector<int32_t>>& prompts,
                     const std::string& wanted) const {
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
  const char* length_key() const { return goes_on() ? "data.length" : "data.inputs_length"; }

  const Config& config_;
  const Tokenizer& tokenizer_;
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

void generate(const GenerateArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  const SamplingOptions sampling = sampling_of(arguments);
  const std::vector<std::string> texts = prompts_of(arguments);
  Trained trained = find_trained(arguments);
  Config& config = trained.config;
  const Tokenizer tokenizer = tokenizer_of(trained.checkpoint);
  const PromptReader reader(config, tokenizer);
  const std::vector<std::vector<int32_t>> prompts = reader.encode(texts, arguments.prompts);

  Generator::Options options{
      .sampling = sampling,
      .decoding = {.has_encoder = !config.model.is_decoder_only(),
                   .encoder_length = config.data.inputs_length,
                   .max_tokens = reader.max_tokens(prompts, arguments.max_tokens)},
      .cached = !arguments.no_cache};
  free_of_training(config);
  RunParts parts(config, config.model.vocabulary.value_or(tokenizer.vocabulary()), world,
                 resolve_threads(config, job.ranks_on_this_node()));
  load_weights(trained.checkpoint, parts.weights, world);
  Generator generator(*parts.kernels, parts.groups, *parts.model, tokenizer.ids(), options);

  const auto stream_of = [&](size_t prompt) {
    return TextStream(tokenizer,
                      options.decoding.has_encoder ? std::vector<int32_t>() : prompts[prompt]);
  };
  if (prompts.size() == 1) {
    TextStream stream = stream_of(0);  // rank 0 computes prompt 0
    generator.answer(prompts, [&](int64_t, int32_t id) { print(stream.add(id)); });
    if (world.rank() == 0) print(stream.finish() + "\n");
    return;
  }
  const std::vector<std::vector<int32_t>> answers = generator.answer(prompts);
  for (size_t i = 0; i < answers.size() && world.rank() == 0; ++i) {
    TextStream stream = stream_of(i);
    std::string answer;
    for (const int32_t id : answers[i]) answer += stream.add(id);
    print(fmt::format("> {}\n{}{}\n\n", texts[i], answer, stream.finish()));
  }
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
