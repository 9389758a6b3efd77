#include "conversion/convert.h"

#include <charconv>
#include <fstream>

#include "base/log.h"
#include "cli/training_run.h"
#include "cli/verbs.h"
#include "registry/choices.h"
#include "registry/make_model.h"
#include "safetensors/file_system.h"

namespace switchyard {

namespace {

struct ConvertArguments {
  std::string from, to, format, dtype, upcycle, expert_capacity, ledger;
  std::string max_shard_size = "5GB";
  std::vector<std::string> overrides;
};

ModelFormat format_of(const ConvertArguments& arguments, bool from_hugging_face) {
  const std::string& format = arguments.format;
  if (format == "huggingface") return ModelFormat::kHuggingFace;
  if (format == "switchyard") return ModelFormat::kSwitchyard;
  if (!format.empty()) {
    throw ConfigError(fmt::format("--format {} is unknown", format), "",
                      "give huggingface or switchyard");
  }
  return from_hugging_face || !arguments.upcycle.empty() ? ModelFormat::kSwitchyard
                                                         : ModelFormat::kHuggingFace;
}

std::optional<StoredType> dtype_of(const std::string& name) {
  if (name.empty()) return {};
  if (name == "float32") return StoredType::kF32;
  if (name == "bfloat16") return StoredType::kBF16;
  if (name == "float16") return StoredType::kF16;
  throw ConfigError(fmt::format("--dtype {} is unknown", name), "",
                    "give float32, bfloat16 or float16, or leave it out to keep what is there");
}

// "5GB", as transformers has it: a GB is 10^9 bytes, a GiB 2^30.
uint64_t size_of_shard(const std::string& text) {
  constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
      {"GB", 1'000'000'000},      {"MB", 1'000'000},          {"KB", 1'000},
      {"GiB", uint64_t{1} << 30}, {"MiB", uint64_t{1} << 20}, {"KiB", uint64_t{1} << 10}};
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  for (const auto& [name, bytes] : kUnits) {
    uint64_t size = 0;
    if (error == std::errc() && unit == name && number > 0 &&
        !__builtin_mul_overflow(number, bytes, &size)) {
      return size;
    }
  }
  throw ConfigError(fmt::format("--max-shard-size {} is no size", text), "",
                    "give a whole number and GB, MB, KB, GiB, MiB or KiB: 5GB");
}

ExportCapacity capacity_of(const std::string& text) {
  if (text.empty()) return {};
  if (text == "none") return {.stated = true, .tokens = {}};
  return {.stated = true, .tokens = parse_count("--expert-capacity", text)};
}

// Opened before anything is converted.
class LedgerFile {
 public:
  explicit LedgerFile(std::string path) : path_(std::move(path)) {
    if (!path_.empty()) out_.open(path_);
    check();
  }
  void write(const Ledger& ledger) {
    if (path_.empty()) return;
    out_ << ledger.table() << std::flush;
    check();
  }

 private:
  void check() const {
    if (!out_) throw InputError("the ledger can't be written", path_, "name another file");
  }

  std::string path_;
  std::ofstream out_;
};

void convert_model(const ConvertArguments& arguments) {
  if (arguments.from.empty() || arguments.to.empty()) {
    throw ConfigError(arguments.from.empty() ? "--from is missing" : "--to is missing", "",
                      "switchyard convert --from SRC --to DST");
  }
  FileSystem& files = FileSystem::real();
  const bool foreign = is_hugging_face(arguments.from, files);
  const std::filesystem::path from = arguments.from;
  ConvertOptions options{.from = foreign ? from : checkpoint_at(from),
                         .to = arguments.to,
                         .format = format_of(arguments, foreign),
                         .dtype = dtype_of(arguments.dtype),
                         .upcycle = {},
                         .max_file_bytes = size_of_shard(arguments.max_shard_size),
                         .capacity = capacity_of(arguments.expert_capacity),
                         .overrides = arguments.overrides};
  if (!arguments.upcycle.empty()) options.upcycle = parse_upcycle(arguments.upcycle);
  if (options.capacity.stated && options.format != ModelFormat::kHuggingFace) {
    throw ConfigError("--expert-capacity is for models of Hugging Face", "",
                      "set moe.capacity instead: --set moe.capacity.tokens=64");
  }
  LedgerFile ledger(arguments.ledger);
  const Conversion done = convert(options, choice_tables(), initialisation_of, files);
  fmt::print("from  {}  ({})\nto    {}  ({})\n\n{}", options.from.string(), done.from,
             options.to.string(), done.to, done.ledger.summary());
  for (const std::string& note : done.notes) fmt::print("note: {}\n", note);
  std::fflush(stdout);
  ledger.write(done.ledger);
}

}  // namespace

void add_convert(CommandLine& line) {
  auto arguments = std::make_shared<ConvertArguments>();
  auto verb = line.verb("convert", "Turn models of Hugging Face into checkpoints, and back");
  verb.option("--from", arguments->from, "SRC",
              "A directory of Hugging Face (config.json, *.safetensors), or a run's folder or one "
              "of its checkpoints")
      .option("--to", arguments->to, "DST", "A directory that doesn't exist yet")
      .option("--format", arguments->format, "NAME",
              "huggingface or switchyard; default: the other one than SRC's")
      .option("--dtype", arguments->dtype, "TYPE",
              "Of all weights: float32, bfloat16 or float16; default: as they are")
      .option("--upcycle", arguments->upcycle, "OPTIONS",
              "Make a dense model a mixture: experts=8[,layers=all][,router=switch][,top_k=2]; "
              "default: top_k of 2 experts in all layers of decoder_lm, in every second one of "
              "switch_t5")
      .option("--expert-capacity", arguments->expert_capacity, "N",
              "Tokens of a sequence that an expert takes in a model of Hugging Face, or none; "
              "where the config's own rule can't be expressed there")
      .option("--max-shard-size", arguments->max_shard_size, "SIZE",
              "Of a file's tensors at most; default 5GB")
      .repeated("--set", arguments->overrides, "KEY=VALUE",
                "Overrides a key of the config: --set data.length=4096")
      .option("--ledger", arguments->ledger, "FILE", "Write a line for each tensor")
      .example("switchyard convert --from models/switch-base-8 --to models/switch-base-8-here")
      .runs([arguments] { convert_model(*arguments); });
}

}  // namespace switchyard
