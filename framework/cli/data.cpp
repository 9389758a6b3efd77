#include "base/log.h"
#include "base/timer.h"
#include "cli/verbs.h"
#include "config/resolve.h"
#include "data/dataset_builder.h"
#include "registry/run_parts.h"

namespace switchyard {

namespace {

TextFormat text_format(SourceConfig::Format format) {
  switch (format) {
    case SourceConfig::Format::kText:
      return TextFormat::kText;
    case SourceConfig::Format::kGzip:
      return TextFormat::kGzip;
    case SourceConfig::Format::kMan:
      return TextFormat::kMan;
  }
  return TextFormat::kText;
}

BuildOptions build_options(const Config& config) {
  BuildOptions options;
  for (const SourceConfig& source : config.data.sources) {
    options.sources.push_back({source.label, source.path, text_format(source.format)});
  }
  options.output = config.data.dir;
  options.validation_share = config.data.validation_share;
  options.tokenizer.vocabulary = static_cast<int>(config.data.tokenizer.vocabulary);
  options.tokenizer.character_coverage = config.data.tokenizer.character_coverage;
  options.training_lines = config.data.tokenizer.training_lines;
  options.threads = resolve_threads(config, 1);
  return options;
}

// A line when a phase begins and every few seconds in it.
class ProgressLines {
 public:
  void operator()(const BuildProgress& progress) {
    if (progress.phase == phase_ && since_line_.seconds() < 5.0) return;
    phase_ = progress.phase;
    since_line_.restart();
    log_info("{}: {:.1f} of {:.1f} MB, {} of {} documents", name_of(progress.phase),
             static_cast<double>(progress.bytes_done) / 1e6,
             static_cast<double>(progress.bytes_total) / 1e6, progress.documents_done,
             progress.documents_total);
  }

 private:
  static const char* name_of(BuildProgress::Phase phase) {
    switch (phase) {
      case BuildProgress::Phase::kRead:
        return "reading";
      case BuildProgress::Phase::kTokenizer:
        return "training the tokenizer";
      case BuildProgress::Phase::kEncode:
        return "encoding";
    }
    return "";
  }

  std::optional<BuildProgress::Phase> phase_;
  Timer since_line_;
};

void announce_dataset(const Config& config, const BuildReport& report) {
  const DatasetListing& listing = report.listing;
  log_info("dataset {}{}: tokenizer with {} pieces", config.data.dir,
           report.built ? "" : " is up to date", listing.pieces);
  for (Split split : kSplits) {
    const DatasetListing::Counts total = listing.total(split);
    log_info("  {}: {} documents, {:.2f} M tokens, {:.1f} MB of text", name_of(split),
             total.documents, static_cast<double>(total.tokens) / 1e6,
             static_cast<double>(total.text_bytes) / 1e6);
  }
  if (!report.built) return;
  const double text_mb = static_cast<double>(listing.total(Split::kTrain).text_bytes +
                                             listing.total(Split::kValidation).text_bytes) /
                         1e6;
  log_info(
      "  reading {:.1f} s, tokenizer {:.1f} s, encoding {:.1f} s: {:.1f} MB/s without the "
      "tokenizer's training",
      report.read_seconds, report.tokenizer_seconds, report.encode_seconds,
      text_mb / (report.read_seconds + report.encode_seconds));
}

void build(const Config& config) {
  if (config.data.sources.empty()) {
    throw ConfigError("data.sources is empty: there is nothing to build a dataset from", "",
                      "list sources as in configs/quickstart.yaml");
  }
  ProgressLines lines;
  const BuildReport report =
      build_dataset(build_options(config), [&](const BuildProgress& progress) { lines(progress); });
  announce_dataset(config, report);
}

}  // namespace

void add_data(CommandLine& line) {
  auto arguments = std::make_shared<ConfigArguments>();
  auto verb = line.verb("data", "Datasets", "build", "Build the dataset of a config from text");
  arguments->add_to(verb);
  verb.example("switchyard data build configs/quickstart.yaml").runs([arguments] {
    build(arguments->load());
  });
}

}  // namespace switchyard
