#include "registry/run_data.h"

#include <fmt/format.h>

#include "base/errors.h"
#include "config/resolve.h"
#include "data/causal_source.h"
#include "data/dataset_source.h"
#include "data/mixture_source.h"
#include "data/pair_examples.h"
#include "data/span_corruption_examples.h"

namespace switchyard {

namespace {

// Datasets up to this size are read whole before training: about a second. Of larger ones `data
// build` checks what stands between headers and indices.
constexpr int64_t kVerifiedBytes = int64_t{1} << 30;

ExampleKind kind_for(DataTask task) {
  return task == DataTask::kTextToText ? ExampleKind::kPairs : ExampleKind::kText;
}

TextFormat text_format(SourceConfig::Format format) {
  switch (format) {
    case SourceConfig::Format::kText:
      return TextFormat::kText;
    case SourceConfig::Format::kGzip:
      return TextFormat::kGzip;
    case SourceConfig::Format::kMan:
      return TextFormat::kMan;
    case SourceConfig::Format::kJsonl:
    case SourceConfig::Format::kIds:
      return TextFormat::kJsonl;
  }
  return TextFormat::kText;
}

// The datasets of a run as the config gives them; one without a mixture.
std::vector<MixtureConfig> entries_of(const DataConfig& data) {
  if (!data.mixture.empty()) return data.mixture;
  return {{.dir = data.dir, .task = data.task}};
}

void check_fits(const Config& config, const MixtureConfig& entry, const Dataset& dataset) {
  const std::string place = dataset.directory().string();
  if (dataset.listing().examples != kind_for(entry.task)) {
    const bool pairs = entry.task == DataTask::kTextToText;
    throw InputError(
        fmt::format("the task {} needs {}, the dataset holds {}", name_of(entry.task),
                    pairs ? "pairs" : "running text", pairs ? "running text" : "pairs"),
        place,
        fmt::format("set its task: {}, or build a dataset for this task",
                    pairs ? "span_corruption or causal" : name_of(DataTask::kTextToText)));
  }
  if (!config.data.mixture.empty()) return;
  if (config.data.vocabulary &&
      stated_vocabulary(*config.data.vocabulary) != dataset.vocabulary()) {
    throw InputError("the dataset was built with another data.vocabulary", place,
                     "run `switchyard data build` again, or state it as it was");
  }
  // A config that names no sources only uses what another one has built.
  if (config.data.sources.empty()) return;
  const std::string changed = setting_that_differs(dataset.listing(), build_options(config, 1));
  if (!changed.empty()) {
    throw InputError(fmt::format("the dataset was built with another data.{}", changed), place,
                     "run `switchyard data build` again, or set the key back");
  }
}

void check_agreement(const RunData& data) {
  const Dataset& first = *data.datasets.front();
  for (const auto& dataset : data.datasets) {
    const auto tokenizer = [](const Dataset& of) {
      return of.has_tokenizer() ? of.listing().tokenizer->xxh3 : "";
    };
    if (dataset->vocabulary() == first.vocabulary() && tokenizer(*dataset) == tokenizer(first)) {
      continue;
    }
    throw InputError(
        fmt::format("the datasets {} and {} have different tokenizers or vocabularies",
                    first.directory().string(), dataset->directory().string()),
        dataset->directory().string(),
        fmt::format("build it again with data.tokenizer.model: {}", first.directory().string()));
  }
}

std::unique_ptr<ExampleSource> make_examples(const Config& config, const MixtureConfig& entry,
                                             const Dataset& dataset, Split split) {
  const auto inputs = static_cast<int>(config.data.inputs_length);
  const auto targets = static_cast<int>(resolve_targets_length(config.data));
  if (entry.task == DataTask::kTextToText) {
    return std::make_unique<PairExamples>(dataset, split, inputs, targets);
  }
  return std::make_unique<SpanCorruptionExamples>(
      dataset, split,
      SpanCorruptionExamples::Options{.inputs_length = inputs,
                                      .corruption = span_corruption_options(config.data)});
}

std::unique_ptr<TokenSource> make_part(const Config& config, const MixtureConfig& entry,
                                       const Dataset& dataset, Split split) {
  const auto seed = static_cast<uint64_t>(config.seed);
  const int64_t rows = config.train.evaluation_sequences;
  const bool trains = split == Split::kTrain;
  if (entry.task == DataTask::kCausal) {
    const CausalSource::Options options{.length = static_cast<int>(config.data.length),
                                        .seed = seed};
    if (!trains) return CausalSource::evaluation(dataset, split, options, rows);
    return std::make_unique<CausalSource>(dataset, split, options);
  }
  const DatasetSource::Options options{
      .inputs_width = static_cast<int>(config.data.inputs_length),
      .targets_width = static_cast<int>(resolve_targets_length(config.data)),
      .packing = config.data.packing,
      .joined = config.model.is_decoder_only(),
      .seed = seed};
  auto examples = make_examples(config, entry, dataset, split);
  if (!trains) return DatasetSource::evaluation(dataset, std::move(examples), options, rows);
  return std::make_unique<DatasetSource>(dataset, std::move(examples), options);
}

std::unique_ptr<TokenSource> make_source(const Config& config, const RunData& data, Split split) {
  const std::vector<MixtureConfig> entries = entries_of(config.data);
  const int64_t rows = config.train.evaluation_sequences;
  const bool trains = split == Split::kTrain;
  std::vector<MixtureSource::Part> parts;
  for (size_t i = 0; i < entries.size(); ++i) {
    parts.push_back({make_part(config, entries[i], *data.datasets[i], split), entries[i].weight});
  }
  if (parts.size() == 1) return std::move(parts.front().source);
  if (trains)
    return std::make_unique<MixtureSource>(std::move(parts), static_cast<uint64_t>(config.seed));
  return MixtureSource::evaluation(std::move(parts), rows);
}

Digest digest_of_data(const Config& config, const RunData& data) {
  std::string all = fmt::format("{} {} {}", config.data.inputs_length,
                                resolve_targets_length(config.data), config.data.packing);
  if (config.data.uses(DataTask::kSpanCorruption)) {
    all += fmt::format(" {} {}", config.data.corruption.rate, config.data.corruption.mean_span);
  }
  if (config.data.uses(DataTask::kCausal)) all += fmt::format(" rows {}", config.data.length);
  if (config.model.is_decoder_only()) all += " joined";
  const std::vector<MixtureConfig> entries = entries_of(config.data);
  for (size_t i = 0; i < entries.size(); ++i) {
    all += fmt::format("\n{} {} {}", data.datasets[i]->digest().hex(), name_of(entries[i].task),
                       entries.size() == 1 ? 1.0 : entries[i].weight);
  }
  return digest_of(all);
}

}  // namespace

Vocabulary stated_vocabulary(const VocabularyConfig& config) {
  const auto id = [](const std::optional<int64_t>& stated) {
    return stated ? std::optional(static_cast<int32_t>(*stated)) : std::nullopt;
  };
  return {.size = static_cast<int>(config.size),
          .pad = id(config.pad),
          .eos = id(config.eos),
          .first_sentinel = id(config.first_sentinel),
          .sentinels = config.first_sentinel ? static_cast<int>(config.sentinels) : 0};
}

std::unique_ptr<RunData> RunData::open(const Config& config) {
  auto data = std::make_unique<RunData>();
  for (const MixtureConfig& entry : entries_of(config.data)) {
    data->datasets.push_back(std::make_unique<Dataset>(entry.dir));
    const Dataset& dataset = *data->datasets.back();
    check_fits(config, entry, dataset);
    int64_t bytes = 0;
    for (const DatasetListing::File& file : dataset.listing().token_files) bytes += file.size_bytes;
    if (bytes <= kVerifiedBytes) dataset.verify();
  }
  check_agreement(*data);
  resolve_vocabulary(config, *data);
  data->training = make_source(config, *data, Split::kTrain);
  data->validation = make_source(config, *data, Split::kValidation);
  data->digest = digest_of_data(config, *data);
  return data;
}

std::filesystem::path RunData::tokenizer_file() const {
  const Dataset& dataset = *datasets.front();
  return dataset.has_tokenizer() ? dataset.directory() / kTokenizerFile : std::filesystem::path();
}

int64_t RunData::mapped_bytes() const {
  int64_t bytes = 0;
  for (const auto& dataset : datasets) {
    for (const Split split : kSplits) {
      bytes += dataset->tokens(split).size_bytes();
    }
  }
  return bytes;
}

std::string RunData::description() const {
  std::string all;
  for (const auto& dataset : datasets) {
    all += (all.empty() ? "" : ", ") + dataset->directory().string();
  }
  return all;
}

BuildOptions build_options(const Config& config, int threads) {
  const DataConfig& data = config.data;
  BuildOptions options;
  const bool has_ids = data.vocabulary.has_value();
  for (const SourceConfig& source : data.sources) {
    const std::string text_key = has_ids ? "ids" : "text";
    options.sources.push_back(
        {.label = source.label,
         .path = source.path,
         .format = text_format(source.format),
         .keys = {.text = source.text_key == "auto" ? text_key : source.text_key,
                  .inputs = source.inputs_key,
                  .targets = source.targets_key,
                  .label = source.label_key}});
  }
  options.output = data.dir;
  options.validation_share = data.validation_share;
  options.examples = kind_for(data.task);
  if (has_ids) options.vocabulary = stated_vocabulary(*data.vocabulary);
  options.tokenizer_model = data.tokenizer.model;
  options.tokenizer.vocabulary = static_cast<int>(data.tokenizer.vocabulary);
  options.tokenizer.character_coverage = data.tokenizer.character_coverage;
  options.training_lines = data.tokenizer.training_lines;
  options.threads = threads;
  return options;
}

std::vector<std::string> warnings_of_cut_examples(const Config& config, const RunData& data) {
  const auto inputs = static_cast<int>(config.data.inputs_length);
  const auto targets = static_cast<int>(resolve_targets_length(config.data));
  std::vector<std::string> warnings;
  for (const auto& dataset : data.datasets) {
    if (dataset->listing().examples != ExampleKind::kPairs) continue;
    const CutExamples cut = count_cut(*dataset, Split::kTrain, inputs, targets);
    const auto warn = [&](int64_t count, const char* key, int length) {
      if (count == 0) return;
      warnings.push_back(fmt::format("{} of {} training examples of {} are cut to data.{} = {}",
                                     count, dataset->listing().total(Split::kTrain).documents,
                                     dataset->directory().string(), key, length));
    };
    warn(cut.inputs, "inputs_length", inputs);
    warn(cut.targets, "targets_length", targets);
  }
  return warnings;
}

int64_t resolve_vocabulary(const Config& config, const RunData& data) {
  const int64_t needed = data.vocabulary().size;
  if (!config.model.vocabulary) return (needed + 127) / 128 * 128;
  if (*config.model.vocabulary < needed) {
    throw ConfigError(fmt::format("model.vocabulary = {} is smaller than the {} ids of the dataset",
                                  *config.model.vocabulary, needed),
                      config.origins.of({"model.vocabulary"}),
                      "set model.vocabulary: auto, or build a dataset with a smaller tokenizer");
  }
  return *config.model.vocabulary;
}

}  // namespace switchyard
