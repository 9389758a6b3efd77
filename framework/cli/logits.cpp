#include "base/log.h"
#include "cli/trained_model.h"
#include "cli/verbs.h"
#include "generation/model_outputs.h"
#include "registry/run_parts.h"
#include "safetensors/safetensors.h"

namespace switchyard {

namespace {

struct LogitsArguments {
  std::string from, tokens, to;
  std::vector<std::string> overrides;

  void check() const {
    const std::pair<const char*, const std::string&> needed[] = {
        {"--from DIR", from}, {"--tokens FILE", tokens}, {"--to FILE", to}};
    for (const auto& [flag, value] : needed) {
      if (value.empty()) {
        throw ConfigError(fmt::format("{} is missing", flag), "", "see switchyard logits --help");
      }
    }
    const std::filesystem::path folder = std::filesystem::path(to).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder)) {
      throw ConfigError("the folder of --to isn't there", to, "make it, or name another file");
    }
  }
};

void write(const std::string& path, const std::vector<OutputTensor>& outputs) {
  std::vector<TensorToWrite> tensors;
  for (const OutputTensor& output : outputs) {
    tensors.push_back(tensor_to_write(output.name, output.values));
  }
  replace_safetensors(path, std::move(tensors), {{"format", "pt"}});
}

void logits(const LogitsArguments& arguments, Job& job) {
  Collectives& world = job.world();
  set_process_speaks(world.rank() == 0);
  arguments.check();
  const TrainedModel trained = open_trained_model(arguments.from, arguments.overrides);
  const bool has_encoder = !trained.config.model.is_decoder_only();
  const std::vector<GivenTokens> sequences = read_token_lines(
      arguments.tokens, has_encoder ? TokenLineKeys::kEncoderDecoder : TokenLineKeys::kDecoder,
      trained.vocabulary);
  ModelParts parts(trained.config, trained.vocabulary, world,
                   resolve_threads(trained.config, job.ranks_on_this_node()));
  trained.load(parts.weights, world);
  const std::vector<OutputTensor> outputs = model_outputs(
      *parts.kernels, parts.groups, *parts.model, sequences, trained.vocabulary, has_encoder);
  if (world.rank() != 0) return;
  write(arguments.to, outputs);
  log_info("{}: logits of {} sequences over {} ids, routing of {} mixtures, from {}", arguments.to,
           sequences.size(), trained.vocabulary, parts.model->moe_layers().size(),
           trained.description);
}

}  // namespace

void add_logits(CommandLine& line) {
  auto arguments = std::make_shared<LogitsArguments>();
  line.verb("logits", "Write logits and routing of given token ids, to compare with other programs")
      .option("--from", arguments->from, "DIR",
              "A run's folder, a checkpoint, or a directory of Hugging Face")
      .option("--tokens", arguments->tokens, "FILE",
              "A JSON object on each line: input_ids and, if need be, attention_mask and "
              "position_ids; for an encoder-decoder also decoder_input_ids and "
              "decoder_attention_mask")
      .option("--to", arguments->to, "FILE", "The safetensors file that is written")
      .repeated("--set", arguments->overrides, "KEY=VALUE",
                "Overrides a key of the model's config: --set train.precision=bfloat16")
      .example("switchyard logits --from runs/tiny --tokens ids.jsonl --to logits.safetensors")
      .runs([arguments] { run_in_job([&](Job& job) { logits(*arguments, job); }); });
}

}  // namespace switchyard
