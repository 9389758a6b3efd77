#include "data/dataset_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/errors.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "base/timer.h"
#include "data/build_directory.h"
#include "data/dataset.h"
#include "data/document_store.h"
#include "data/mapped_file.h"
#include "data/output_file.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "data/word_encoder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

using Json = nlohmann::ordered_json;

constexpr const char* kTextsFile = "texts.tmp";  // all documents' text, while building

void check_options(const BuildOptions& options) {
  if (options.sources.empty()) throw ConfigError("there is no source to build a dataset from");
  for (const TextSource& source : options.sources) {
    if (source.label.empty() && source.keys.label.empty()) {
      throw ConfigError("a source has no label", source.path.string());
    }
    if (source.format == TextFormat::kJsonl) continue;
    if (options.vocabulary || options.examples == ExampleKind::kPairs) {
      throw ConfigError(std::string("a source of ") + name_of(source.format) + " holds no " +
                            (options.vocabulary ? "ids" : "pairs"),
                        source.path.string(), "give lines of JSON");
    }
  }
  if (!(options.validation_share >= 0 && options.validation_share <= 0.5)) {
    throw ConfigError(
        fmt::format("validation_share {} is outside [0, 0.5]", options.validation_share));
  }
  if (options.training_lines < 1) throw ConfigError("training_lines is below 1");
  if (options.threads < 1) throw ConfigError("threads is below 1");
}

fs::path tokenizer_path(const BuildOptions& options) {
  const fs::path& model = options.tokenizer_model;
  return fs::is_directory(model) ? model / kTokenizerFile : model;
}

// The options that the result depends on.
Json build_settings(const BuildOptions& options) {
  Json settings;
  settings["sources"] = Json::array();
  for (const TextSource& source : options.sources) {
    Json entry{{"label", source.label},
               {"path", source.path.string()},
               {"format", name_of(source.format)}};
    if (source.format == TextFormat::kJsonl) {
      if (options.examples == ExampleKind::kText) entry["text_key"] = source.keys.text;
      if (options.examples == ExampleKind::kPairs) {
        entry["inputs_key"] = source.keys.inputs;
        entry["targets_key"] = source.keys.targets;
      }
      entry["label_key"] = source.keys.label;
    }
    settings["sources"].push_back(std::move(entry));
  }
  settings["task"] = options.examples == ExampleKind::kPairs ? "text_to_text" : "span_corruption";
  settings["validation_share"] = options.validation_share;
  if (options.vocabulary) {
    settings["vocabulary"] = Json::parse(to_json(*options.vocabulary));
  } else if (!options.tokenizer_model.empty()) {
    settings["tokenizer.model"] = options.tokenizer_model.string();
  } else {
    settings["tokenizer.vocabulary"] = options.tokenizer.vocabulary;
    settings["tokenizer.character_coverage"] = options.tokenizer.character_coverage;
    settings["tokenizer.training_lines"] = options.training_lines;
    settings["tokenizer.threads"] = options.tokenizer.threads;
  }
  return settings;
}

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Everything that the result depends on: equal text means that building again would change nothing.
std::string build_description(const BuildOptions& options, const std::vector<TextFile>& files,
                              ThreadPool& pool) {
  Json build = build_settings(options);
  std::vector<std::string> digests(files.size());
  pool.parallel_for(static_cast<int64_t>(files.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) digests[i] = digest_of_file(files[i].path).hex();
  });
  std::string inventory;
  for (size_t i = 0; i < files.size(); ++i) {
    inventory += fmt::format("{}\t{}\t{}\n", files[i].source, files[i].path.string(), digests[i]);
    for (const std::string& alias : files[i].aliases) inventory += alias + '\n';
  }
  build["files"] = files.size();
  build["files_xxh3"] = digest_of(inventory).hex();
  if (!options.vocabulary && !options.tokenizer_model.empty()) {
    build["tokenizer.model_xxh3"] = digest_of_file(tokenizer_path(options)).hex();
  }
  return text_of(build);
}

// Whether `output` holds a dataset made like this that is whole.
bool is_current(const fs::path& output, const std::string& build) {
  if (!fs::exists(output / kListingFile)) return false;
  try {
    const Dataset dataset(output);
    if (dataset.listing().build != build) return false;
    dataset.verify();
    return true;
  } catch (const InputError&) {
    return false;  // damaged: made anew
  }
}

// Calls body(chunk) for every chunk of at most kBytes, cut where a line or at least a word ends.
template <typename Body>
void for_each_chunk(std::string_view text, size_t chunk_bytes, Body&& body) {
  while (!text.empty()) {
    size_t end = text.size();
    if (end > chunk_bytes) {
      end = text.rfind('\n', chunk_bytes);
      if (end == std::string_view::npos || end == 0) end = text.rfind(' ', chunk_bytes);
      if (end == std::string_view::npos || end == 0) {
        end = chunk_bytes;
        while (end > 1 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
      }
    }
    body(text.substr(0, end));
    text.remove_prefix(end);
  }
}

// Builds one dataset: the phases in order, with what they hand on.
class Builder {
 public:
  Builder(const BuildOptions& options, std::string build, fs::path directory, ThreadPool& pool,
          const ProgressCallback& progress)
      : options_(options), directory_(std::move(directory)), progress_(progress), pool_(pool) {
    report_.listing.examples = options.examples;
    report_.listing.build = std::move(build);
  }

  BuildReport run(const std::vector<TextFile>& files) {
    Timer timer;
    DocumentStore store(options_, files, directory_ / kTextsFile, pool_, progress_);
    report_.listing.labels = store.labels();
    report_.duplicates = store.duplicates();
    report_.without_text = store.without_text();
    split(store);
    report_.read_seconds = timer.seconds();
    timer.restart();
    const MappedFile texts(directory_ / kTextsFile);
    if (!options_.vocabulary) tokenizer_ = make_tokenizer(texts.text());
    report_.listing.vocabulary = tokenizer_ ? tokenizer_->ids() : *options_.vocabulary;
    report_.tokenizer_seconds = timer.seconds();
    timer.restart();
    for (const Split split : kSplits) encode(split, texts.text());
    fs::remove(directory_ / kTextsFile);
    OutputFile listing(directory_ / kListingFile);
    listing.write(to_json(report_.listing));
    listing.finish();
    report_.encode_seconds = timer.seconds();
    return std::move(report_);
  }

 private:
  void tell() const {
    if (progress_) progress_(now_);
  }

  void split(DocumentStore& store);
  Tokenizer make_tokenizer(std::string_view texts);
  std::string train(std::string_view texts);
  void encode(Split split, std::string_view texts);
  void encode_batch(std::span<const StoredDocument> batch, std::string_view texts,
                    std::vector<WordEncoder>& encoders, Split split, TokenFileWriter& writer);
  // The parts of a document: a text, or inputs and targets.
  size_t parts() const { return options_.examples == ExampleKind::kPairs ? 2 : 1; }
  static std::string_view part_of(const StoredDocument& document, size_t part,
                                  std::string_view texts) {
    const int64_t begin = document.begin + (part == 0 ? 0 : document.size_bytes[0]);
    return texts.substr(begin, document.size_bytes[part]);
  }

  const BuildOptions& options_;
  fs::path directory_;
  const ProgressCallback& progress_;
  ThreadPool& pool_;
  BuildProgress now_;
  BuildReport report_;
  std::optional<Tokenizer> tokenizer_;                // none for ids
  std::array<std::vector<StoredDocument>, 2> sides_;  // by Split, sorted by label
};

void Builder::split(DocumentStore& store) {
  const size_t documents = store.documents().size();
  for (StoredDocument& document : store.documents()) {
    const bool held_out = store.names().is_validation(document.name, options_.validation_share);
    sides_[held_out ? 1 : 0].push_back(std::move(document));
  }
  for (const Split split : kSplits) {
    const bool wanted = split == Split::kTrain || options_.validation_share > 0;
    if (wanted && sides_[static_cast<size_t>(split)].empty()) {
      throw InputError(
          fmt::format("of {} documents none is left for {}", documents, name_of(split)),
          options_.sources[0].path.string(),
          "each file is one document, or each line of JSON: give more, or change "
          "validation_share");
    }
  }
}

Tokenizer Builder::make_tokenizer(std::string_view texts) {
  std::string model;
  std::string name = kTokenizerFile;
  if (options_.tokenizer_model.empty()) {
    model = train(texts);
  } else {
    const fs::path path = tokenizer_path(options_);
    name = path.string();
    model = MappedFile(path).text();
  }
  Tokenizer tokenizer = Tokenizer::from_bytes(model, name);
  OutputFile file(directory_ / kTokenizerFile);
  file.write(model);
  file.finish();
  report_.listing.tokenizer = {static_cast<int64_t>(model.size()), tokenizer.digest().hex()};
  return tokenizer;
}

// Trains on lines of the training side, drawn evenly when there are more than training_lines.
std::string Builder::train(std::string_view texts) {
  constexpr size_t kLineBytes = 2000;  // the trainer leaves out lines above 4,192 bytes
  std::vector<std::string_view> lines;
  for (const StoredDocument& document : sides_[0]) {
    for (size_t part = 0; part < parts(); ++part) {
      std::string_view text = part_of(document, part, texts);
      while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        for_each_chunk(line, kLineBytes, [&](std::string_view chunk) { lines.push_back(chunk); });
        text.remove_prefix(std::min(line.size() + 1, text.size()));
      }
    }
  }
  const double share =
      static_cast<double>(options_.training_lines) / static_cast<double>(lines.size());
  // Layer 1 sets the draw apart from the samples' order, which has layer 0.
  const RandomKey key{.layer = 1, .purpose = Purpose::kSampleOrder};
  now_ = {BuildProgress::Phase::kTokenizer, 0, 0, 0, static_cast<int64_t>(sides_[0].size())};
  tell();
  size_t next = 0;
  int64_t taken = 0;
  return train_tokenizer(options_.tokenizer, [&](std::string_view& line) {
    for (; next < lines.size() && taken < options_.training_lines; ++next) {
      if (random_uniform(key, static_cast<uint32_t>(next), 0, 0) >= share) continue;
      line = lines[next++];
      ++taken;
      return true;
    }
    return false;
  });
}

void Builder::encode(Split split, std::string_view texts) {
  constexpr int64_t kBatchBytes = 8 << 20;
  const auto s = static_cast<size_t>(split);
  const std::vector<StoredDocument>& documents = sides_[s];
  const size_t labels = report_.listing.labels.size();
  const fs::path path = directory_ / token_file_name(split);
  TokenFileWriter writer(path, report_.listing.vocabulary.size, static_cast<int>(labels));
  std::vector<WordEncoder> encoders;
  if (tokenizer_) encoders.assign(pool_.size(), WordEncoder(*tokenizer_));
  report_.listing.counts[s].resize(labels);
  now_ = {BuildProgress::Phase::kEncode, 0, 0, 0, static_cast<int64_t>(documents.size())};
  for (const StoredDocument& document : documents) now_.bytes_total += document.all_bytes();
  for (size_t begin = 0; begin < documents.size();) {
    size_t end = begin;
    int64_t bytes = 0;
    while (end < documents.size() && bytes < kBatchBytes) bytes += documents[end++].all_bytes();
    encode_batch({documents.data() + begin, end - begin}, texts, encoders, split, writer);
    now_.bytes_done += bytes;
    now_.documents_done += static_cast<int64_t>(end - begin);
    begin = end;
    tell();
  }
  writer.finish();
  report_.listing.token_files[s] = {static_cast<int64_t>(fs::file_size(path)),
                                    digest_of_file(path).hex()};
  report_.listing.header_xxh3[s] = TokenFile(path).header_digest().hex();
}

void Builder::encode_batch(std::span<const StoredDocument> batch, std::string_view texts,
                           std::vector<WordEncoder>& encoders, Split split,
                           TokenFileWriter& writer) {
  // Where words are taken apart a text may be encoded in parts cut between them: long documents
  // are shared out too, and none needs the encoder's memory for its whole length. Else only what
  // is too long for that memory is cut, and the ids at the cuts are not those of the whole.
  const bool apart = !tokenizer_ || tokenizer_->takes_words_apart();
  const size_t chunk_bytes = size_t{apart ? 16u : 1024u} << 10;
  struct Chunk {
    size_t text;  // its number in the batch: document * parts() + part
    std::string_view bytes;
    std::vector<int32_t> ids;
  };
  std::vector<Chunk> chunks;
  for (size_t t = 0; tokenizer_ && t < batch.size() * parts(); ++t) {
    for_each_chunk(part_of(batch[t / parts()], t % parts(), texts), chunk_bytes,
                   [&](std::string_view bytes) {
                     chunks.push_back({t, bytes, {}});
                   });
  }
  // One encoder for each share of the chunks, kept from batch to batch with the words it knows.
  const auto shares = static_cast<int64_t>(encoders.size());
  const auto count = static_cast<int64_t>(chunks.size());
  pool_.parallel_for(shares, 1, [&](int64_t from, int64_t to) {
    for (int64_t share = from; share < to; ++share) {
      for (int64_t i = count * share / shares; i < count * (share + 1) / shares; ++i) {
        encoders[share].encode(chunks[i].bytes, chunks[i].ids);
      }
    }
  });
  std::vector<int32_t> ids;
  auto chunk = chunks.begin();
  for (size_t t = 0; t < batch.size() * parts(); ++t) {
    const StoredDocument& document = batch[t / parts()];
    ids.clear();
    // In front of a text, and of a pair's inputs.
    if (tokenizer_ && tokenizer_->beginning() && t % parts() == 0) {
      ids.push_back(*tokenizer_->beginning());
    }
    for (; chunk != chunks.end() && chunk->text == t; ++chunk) {
      ids.insert(ids.end(), chunk->ids.begin(), chunk->ids.end());
    }
    if (!tokenizer_) {
      const std::string_view bytes = part_of(document, t % parts(), texts);
      ids.resize(bytes.size() / sizeof(int32_t));
      std::memcpy(ids.data(), bytes.data(), bytes.size());
    }
    writer.add(ids, document.label);
    DatasetListing::Counts& counts =
        report_.listing.counts[static_cast<size_t>(split)][document.label];
    counts.documents += t % parts() == 0;
    counts.tokens += static_cast<int64_t>(ids.size());
    if (tokenizer_) counts.text_bytes += document.size_bytes[t % parts()];
  }
}

}  // namespace

BuildReport build_dataset(const BuildOptions& options, const ProgressCallback& progress) {
  check_options(options);
  const std::vector<TextFile> files = list_text_files(options.sources);
  ThreadPool pool(options.threads);
  std::string build = build_description(options, files, pool);
  if (is_current(options.output, build)) {
    BuildReport report;
    report.built = false;
    report.listing = read_listing(options.output);
    return report;
  }
  BuildDirectory directory(options.output);
  Builder builder(options, std::move(build), directory.path(), pool, progress);
  BuildReport report = builder.run(files);
  directory.commit();
  return report;
}

std::string setting_that_differs(const DatasetListing& listing, const BuildOptions& options) {
  const Json built = Json::parse(listing.build);
  // Through text, as the listing's, so that what is no UTF-8 compares equal.
  const Json wanted = Json::parse(text_of(build_settings(options)));
  for (const auto& [key, value] : wanted.items()) {
    const auto found = built.find(key);
    if (found == built.end() || *found != value) return key;
  }
  return "";
}

}  // namespace switchyard
