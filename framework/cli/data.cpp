
#include "base/log.h"
#include "base/timer.h"
#include "cli/show_sequences.h"
#include "cli/verbs.h"
#include "data/dataset_builder.h"
#include "registry/run_data.h"
#include "registry/run_parts.h"

namespace switchyard {

namespace {

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
  log_info("dataset {}{}: {} for {}, {} ids{}", config.data.dir,
           report.built ? "" : " is up to date", name_of(listing.examples),
           listing.examples == ExampleKind::kPairs ? "text_to_text" : "span_corruption or causal",
           listing.vocabulary.size, listing.tokenizer ? "" : " without a tokenizer");
  for (Split split : kSplits) {
    const DatasetListing::Counts total = listing.total(split);
    log_info("  {}: {} documents, {:.2f} M tokens, {:.1f} MB of text", name_of(split),
             total.documents, static_cast<double>(total.tokens) / 1e6,
             static_cast<double>(total.text_bytes) / 1e6);
  }
  if (!report.built) return;
  if (report.duplicates + report.without_text > 0) {
    log_info("  left out: {} that came before, {} without text", report.duplicates,
             report.without_text);
  }
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
  if (!config.data.mixture.empty()) {
    throw ConfigError("data.mixture takes datasets that are there: it builds none",
                      config.origins.of({"data.mixture"}),
                      "run `data build` with the config of each of them");
  }
  if (config.data.sources.empty()) {
    throw ConfigError("data.sources is empty: there is nothing to build a dataset from", "",
                      "list sources as in configs/quickstart.yaml");
  }
  ProgressLines lines;
  const BuildReport report = build_dataset(build_options(config, resolve_threads(config, 1)),
                                           [&](const BuildProgress& progress) { lines(progress); });
  announce_dataset(config, report);
}

Split parse_split(const std::string& name) {
  for (const Split split : kSplits) {
    if (name == name_of(split)) return split;
  }
  throw ConfigError(fmt::format("--split {} is none", name), "", "it is train or validation");
}

}  // namespace

static void add_build(CommandLine& line) {
  auto arguments = std::make_shared<ConfigArguments>();
  auto verb = line.verb("data", "Datasets", "build", "Build the dataset of a config from text");
  arguments->add_to(verb);
  verb.example("switchyard data build configs/quickstart.yaml").runs([arguments] {
    build(arguments->load());
  });
}

static void add_show(CommandLine& line) {
  struct ShowArguments : ConfigArguments {
    std::string count = "3", first = "0", split = "train";
  };
  auto arguments = std::make_shared<ShowArguments>();
  auto verb = line.verb("data", "Datasets", "show", "Print sequences as the model sees them");
  arguments->add_to(verb);
  verb.option("--count", arguments->count, "N", "How many; default 3")
      .option("--first", arguments->first, "N", "The number of the first one; default 0")
      .option("--split", arguments->split, "NAME", "train (default) or validation")
      .example("switchyard data show configs/quickstart.yaml --count 2 --split validation")
      .runs([arguments] {
        const Config config = arguments->load();
        const int64_t first = parse_count("--first", arguments->first);
        show_sequences(*RunData::open(config), parse_split(arguments->split), first,
                       parse_count("--count", arguments->count));
      });
}

void add_data(CommandLine& line) {
  add_build(line);
  add_show(line);
}

}  // namespace switchyard
