#include "conversion/convert.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <unordered_map>

#include "base/errors.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "config/resolve.h"
#include "conversion/model_tensors.h"
#include "conversion/output.h"
#include "conversion/read_config.h"
#include "safetensors/safetensors.h"

namespace switchyard {

namespace {

// A checkpoint must hold the tensors of its config, no more and no less.
void check_complete(const ModelSource& source, const std::vector<TensorSpec>& wanted) {
  std::unordered_map<std::string, const SourceTensor*> left;
  for (const SourceTensor& tensor : source.tensors) left[tensor.name] = &tensor;
  const auto refuse = [&](const std::string& what) {
    throw CheckpointError("the weights don't fit their config: " + what, source.description,
                          "was a key of the model's shape overridden?");
  };
  for (const TensorSpec& spec : wanted) {
    const auto found = left.find(spec.name);
    if (found == left.end()) refuse(fmt::format("tensor \"{}\" is missing", spec.name));
    if (found->second->shape != spec.shape) {
      refuse(fmt::format("tensor \"{}\" is [{}], not [{}]", spec.name,
                         fmt::join(found->second->shape, ", "), fmt::join(spec.shape, ", ")));
    }
    left.erase(found);
  }
  if (!left.empty()) refuse(fmt::format("tensor \"{}\" is one too many", left.begin()->first));
}

// The type of most of the weights' bytes.
StoredType main_type(const std::vector<WrittenTensor>& tensors) {
  std::map<StoredType, uint64_t> bytes;
  for (const WrittenTensor& tensor : tensors) bytes[tensor.type] += tensor.size_bytes();
  StoredType most = StoredType::kF32;
  uint64_t largest = 0;
  for (const auto& [type, size] : bytes) {
    if (size > largest) most = type;
    largest = std::max(largest, size);
  }
  return most;
}

class Converter {
 public:
  Converter(const ConvertOptions& options, const ChoiceTables& tables, FileSystem& files)
      : options_(options), tables_(tables), files_(files) {}

  Conversion run(const StartOf& start_of) {
    refuse_existing(options_.to, files_);
    source_ = open_source();
    result_.from = source_.description;
    result_.notes = source_.notes;
    if (options_.upcycle) {
      upcycle(start_of);
    } else {
      config_ = source_.config;
      tensors_ = source_.tensors;
      if (source_.checkpoint && to_hugging_face()) {
        check_complete(source_, model_tensors(config_, source_.vocabulary));
      }
    }
    to_hugging_face() ? write_hugging_face_model() : write_switchyard();
    return std::move(result_);
  }

 private:
  bool to_hugging_face() const { return options_.format == ModelFormat::kHuggingFace; }

  // A run of the new config has a folder of its own.
  std::vector<std::string> overrides() const {
    std::vector<std::string> all = {
        fmt::format("name={}", yaml_text(options_.to.filename().string()))};
    all.insert(all.end(), options_.overrides.begin(), options_.overrides.end());
    return all;
  }

  ModelSource open_source() const {
    // Those of an upcycled model's config are for that one.
    const std::vector<std::string> set =
        options_.upcycle ? std::vector<std::string>() : overrides();
    if (is_hugging_face(options_.from, files_)) {
      return open_hugging_face(options_.from, set, tables_, files_);
    }
    return open_checkpoint(options_.from, set, tables_, files_);
  }

  void upcycle(const StartOf& start_of) {
    check_complete(source_, model_tensors(source_.config, source_.vocabulary));
    config_ = upcycled_config(source_, *options_.upcycle, overrides(), tables_);
    tensors_ = upcycled_tensors(source_, config_, start_of(config_.model));
    source_.step = source_.tokens_seen = 0;
    result_.notes.push_back(
        keeps_the_function(config_)
            ? "the weights of a token's experts add up to 1 and nothing is dropped: the first "
              "forward pass is the dense model's"
            : "the weights of a token's experts don't add up to 1, or tokens are dropped: the "
              "first forward pass isn't the dense model's (router=top_k keeps it)");
  }

  // Fills the ledger.
  std::vector<WrittenTensor> outputs(
      const std::function<std::string(const std::string&)>& name_of) {
    std::vector<WrittenTensor> outputs;
    for (const SourceTensor& tensor : tensors_) {
      WrittenTensor output{.name = name_of(tensor.name),
                           .type = options_.dtype.value_or(tensor.type),
                           .source = &tensor};
      result_.ledger.lines.push_back({.target = output.name,
                                      .source = tensor.origin,
                                      .note = tensor.note,
                                      .stored = tensor.type,
                                      .written = output.type,
                                      .shape = tensor.shape,
                                      .size_bytes = output.size_bytes()});
      outputs.push_back(std::move(output));
    }
    result_.ledger.left_out = source_.left_out;
    result_.ledger.stored_tensors = source_.stored_tensors;
    result_.ledger.check(source_);
    return outputs;
  }

  // Of the tokenizer, or as data.vocabulary states them.
  SpecialPieces special_pieces() const {
    if (!source_.tokenizer.path.empty()) return read_special_pieces(source_.tokenizer.path);
    const auto id = [](const std::optional<int64_t>& stated) {
      return SpecialPiece{.id = static_cast<int>(stated.value_or(-1)), .text = ""};
    };
    if (!config_.data.vocabulary)
      return {.pad = {.id = 0, .text = ""}, .eos = {.id = 1, .text = ""}};
    return {.pad = id(config_.data.vocabulary->pad), .eos = id(config_.data.vocabulary->eos)};
  }

  void write_hugging_face_model() {
    const SpecialPieces pieces = special_pieces();
    const auto exported_as = [&](StoredType type) {
      return export_config(config_, source_.vocabulary, pieces, type, options_.capacity);
    };
    const Dialect dialect = exported_as(StoredType::kF32).dialect;
    const std::vector<WrittenTensor> written =
        outputs([&](const std::string& name) { return hugging_face_name(dialect, name); });
    const ExportedConfig exported = exported_as(main_type(written));
    result_.to = fmt::format("Hugging Face {}", name_of(dialect.family));
    HuggingFaceFiles beside{.texts = {{"config.json", exported.json}}};
    if (!source_.tokenizer.path.empty()) {
      const ExportedTokenizer tokenizer = export_tokenizer(dialect.family, pieces);
      beside.texts.insert(beside.texts.end(), tokenizer.texts.begin(), tokenizer.texts.end());
      beside.tokenizer = source_.tokenizer.path;
      beside.tokenizer_name = tokenizer.model_file;
    }
    write_hugging_face(options_.to, written, beside, options_.max_file_bytes, files_);
  }

  void write_switchyard() {
    const std::vector<WrittenTensor> written =
        outputs([](const std::string& name) { return name; });
    result_.to = "checkpoint";
    // The source may be gone when a dataset is built.
    if (source_.set && !config_.data.tokenizer.model.empty()) {
      config_.data.tokenizer.model = (options_.to / kCheckpointTokenizer).string();
    }
    CheckpointContents contents{.step = source_.step,
                                .tokens_seen = source_.tokens_seen,
                                .sampler_position = 0,
                                .seed = static_cast<uint64_t>(config_.seed),
                                .config_text = to_yaml(config_),
                                .dataset_hash = {},
                                .tokenizer = source_.tokenizer.path,
                                .tensors = {}};
    for (const WrittenTensor& tensor : written) {
      contents.tensors.push_back({.name = tensor.name,
                                  .part = TensorPart::kModel,
                                  .type = tensor.type,
                                  .shape = tensor.source->shape,
                                  .read = [&tensor](const TakeBytes& take) { tensor.read(take); }});
    }
    write_checkpoint(options_.to, contents, options_.max_file_bytes, files_);
  }

  const ConvertOptions& options_;
  const ChoiceTables& tables_;
  FileSystem& files_;
  ModelSource source_;
  Config config_;
  std::vector<SourceTensor> tensors_;
  Conversion result_;
};

}  // namespace

Conversion convert(const ConvertOptions& options, const ChoiceTables& tables,
                   const StartOf& start_of, FileSystem& files) {
  ConvertOptions named = options;  // without a separator at the end
  if (!named.to.has_filename()) named.to = named.to.parent_path();
  return Converter(named, tables, files).run(start_of);
}

}  // namespace switchyard
