#include "cli/training_run.h"

#include <algorithm>
#include <map>

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "registry/devices.h"

namespace switchyard {

RunDirectory run_directory(const Config& config) {
  return {std::filesystem::path(config.run.dir) / config.name};
}

void refuse_file(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path) || std::filesystem::is_directory(path)) return;
  throw CheckpointError("it is a file, not the folder of a run or checkpoint", path.string(),
                        "name the folder that it lies in");
}

// Says what stands there instead of a checkpoint.
[[noreturn]] static void refuse_other(const std::filesystem::path& path) {
  const auto has = [&](const char* name) { return std::filesystem::exists(path / name); };
  if (has("config.json")) {
    throw CheckpointError(
        "it is a model of Hugging Face, not a checkpoint", path.string(),
        "make one of it: switchyard convert --from " + path.string() + " --to DIR");
  }
  if (has("model.safetensors") || has("model.safetensors.index.json")) {
    throw CheckpointError(
        "there are weights, but neither manifest.pb (a checkpoint) nor "
        "config.json (Hugging Face)",
        path.string(), "copy or fetch the whole folder");
  }
  throw CheckpointError(
      std::filesystem::exists(path) ? "there is no checkpoint"
                                    : "there is no checkpoint: the folder doesn't exist",
      path.string(), "train the run first, or name the folder of a run or checkpoint");
}

std::filesystem::path checkpoint_at(const std::filesystem::path& path) {
  if (path.empty()) return {};
  if (std::filesystem::exists(path / kManifestName)) return path;
  refuse_file(path);
  for (const std::filesystem::path& directory : {path / "checkpoints", path}) {
    if (const auto latest = latest_checkpoint(directory)) return latest->path;
  }
  if (path.filename().string().starts_with("step-")) return path;  // opening it says what is wrong
  refuse_other(path);
}

std::filesystem::path RunDirectory::log(int rank) const {
  return path / "logs" / fmt::format("rank-{:05}.log", rank);
}

// Parameters of the whole model: expert weights of all ranks.
static double count_parameters(const RunParts& parts) {
  double count = 0;
  for (const Weight* weight : parts.weights) {
    if (!weight->is_expert()) {
      count += static_cast<double>(weight->shape().elements());
    } else {
      const Shape shape = weight->whole_shape();
      count += static_cast<double>(weight->experts().total * shape[1] * shape[2]);
    }
  }
  return count;
}

static std::string held_experts(const Config& config, const RunParts& parts, int rank) {
  const int slices = parts.groups.tensor->size(), places = parts.groups.expert->size();
  std::map<int64_t, int> layers;  // by their number of experts
  for (const MoeLayer* layer : parts.model->moe_layers()) ++layers[layer->local_experts().total];
  std::string held;
  for (const auto& [experts, count] : layers) {
    const ExpertRange range = experts_of_rank(experts, places, rank / slices % places);
    if (!held.empty()) held += ", ";
    held += range.count == 0 ? fmt::format("no expert of {}", experts)
                             : fmt::format("experts {} to {} of {}", range.first,
                                           range.first + range.count - 1, experts);
    held += fmt::format(" in each of {} MoE layers", count);
  }
  if (slices == 1) return held;
  const int64_t width = config.model.d_ff / slices, first = rank % slices * width;
  return fmt::format("features {} to {} of {} of {}", first, first + width - 1, config.model.d_ff,
                     held);
}

static void warn_of_idle_ranks(const Config& config, const BatchLayout& layout) {
  const std::vector<int64_t> idle = layout.idle_ranks();
  if (idle.empty()) return;
  std::string list;
  for (int64_t rank : idle) list += (list.empty() ? "" : ", ") + std::to_string(rank);
  log_warning(
      "ranks without tokens: {}: {} routing groups of {} sequences for {} ranks; they work on "
      "experts only. train.batch_sequences = {} or a smaller moe.group_sequences would fill them",
      list, layout.groups(), layout.group_sequences, layout.ranks,
      layout.group_sequences * layout.ranks * config.train.micro_batches);
}

StartRecord start_record(const Config& config, const RunParts& parts, int threads) {
  return {.steps = config.train.steps,
          .ranks = parts.groups.world->size(),
          .expert_group = parts.groups.expert_ranks(),
          .threads = threads,
          .device = resolve_device(config.device, ""),
          .parameters = static_cast<int64_t>(count_parameters(parts))};
}

void announce(const Config& config, const RunParts& parts, const RunData& data, int threads) {
  const Groups& groups = parts.groups;
  const std::string device = resolve_device(config.device, "");
  log_info("model {}: {:.2f} M parameters, vocabulary {}, dataset {} ({} labels)",
           config.model.type, count_parameters(parts) / 1e6, resolve_vocabulary(config, data),
           data.description(), data.training->label_names().size());
  for (const std::string& warning : warnings_of_cut_examples(config, data)) log_warning(warning);
  log_info(
      "layout {}: {} ranks ({}), {} threads each, device {}; {} sequences a batch in {} routing "
      "groups, {} micro-batches",
      groups.layout(), groups.world->size(), groups.world->name(), threads, device,
      parts.layout.sequences, parts.layout.groups(), parts.layout.micro_batches);
  const bool has_mixtures = !parts.model->moe_layers().empty();
  for (int rank = 0; rank < groups.world->size() && has_mixtures; ++rank) {
    log_info("rank {}: {}", rank, held_experts(config, parts, rank));
  }
  warn_of_idle_ranks(config, parts.layout);
}

Evaluator make_evaluator(const Config& config, RunParts& parts, const RunData& data,
                         const EvaluationChoices& choices) {
  Evaluator::Options options{.layout = parts.layout,
                             .shuffle_inputs = choices.shuffle_inputs,
                             .ordered = config.train.reduction == TrainConfig::Reduction::kOrdered};
  if (choices.trace_routing) options.trace_tokens = resolve_vocabulary(config, data);
  options.layout.micro_batches = 1;
  options.sequences = std::min(config.train.evaluation_sequences, data.validation->epoch_size());
  return Evaluator(*parts.kernels, parts.groups, *parts.model, *data.validation, options);
}

}  // namespace switchyard
