#include "data/dataset_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/errors.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "base/timer.h"
#include "data/build_directory.h"
#include "data/dataset.h"
#include "data/mapped_file.h"
#include "data/output_file.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "data/validation_split.h"
#include "data/word_encoder.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTextsFile = "texts.tmp";  // all documents' text, while building

struct StoredDocument {
  int label;
  std::string name;
  int64_t begin, size_bytes;  // in the texts file
};

void check_options(const BuildOptions& options) {
  if (options.sources.empty()) throw ConfigError("there is no source to build a dataset from");
  for (const TextSource& source : options.sources) {
    if (source.label.empty()) throw ConfigError("a source has no label", source.path.string());
  }
  if (!(options.validation_share >= 0 && options.validation_share <= 0.5)) {
    throw ConfigError(
        fmt::format("validation_share {} is outside [0, 0.5]", options.validation_share));
  }
  if (options.training_lines < 1) throw ConfigError("training_lines is below 1");
  if (options.threads < 1) throw ConfigError("threads is below 1");
}

// The distinct labels in the order of the sources.
std::vector<std::string> labels_of(const std::vector<TextSource>& sources) {
  std::vector<std::string> labels;
  for (const TextSource& source : sources) {
    if (std::ranges::find(labels, source.label) == labels.end()) labels.push_back(source.label);
  }
  return labels;
}

// Everything that the result depends on: equal text means that building again would change nothing,
// short of files changed without changing their size.
std::string build_description(const BuildOptions& options, const std::vector<TextFile>& files) {
  nlohmann::ordered_json build;
  build["sources"] = nlohmann::ordered_json::array();
  for (const TextSource& source : options.sources) {
    build["sources"].push_back({{"label", source.label},
                                {"path", source.path.string()},
                                {"format", name_of(source.format)}});
  }
  build["validation_share"] = options.validation_share;
  build["vocabulary"] = options.tokenizer.vocabulary;
  build["character_coverage"] = options.tokenizer.character_coverage;
  build["tokenizer_threads"] = options.tokenizer.threads;
  build["training_lines"] = options.training_lines;
  std::string inventory;
  for (const TextFile& file : files) {
    inventory += fmt::format("{}\t{}\t{}\n", file.source, file.path.string(), file.size_bytes);
  }
  build["files"] = files.size();
  build["files_xxh3"] = digest_of(inventory).hex();
  return build.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// Whether `output` holds a dataset made like this that can be opened.
bool is_current(const fs::path& output, const std::string& build) {
  if (!fs::exists(output / kListingFile)) return false;
  try {
    return Dataset(output).listing().build == build;
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
  Builder(const BuildOptions& options, std::vector<TextFile> files, std::string build,
          fs::path directory, const ProgressCallback& progress)
      : options_(options),
        files_(std::move(files)),
        labels_(labels_of(options.sources)),
        directory_(std::move(directory)),
        progress_(progress),
        pool_(options.threads) {
    report_.listing.labels = labels_;
    report_.listing.build = std::move(build);
  }

  BuildReport run() {
    Timer timer;
    read();
    split();
    report_.read_seconds = timer.seconds();
    timer.restart();
    const MappedFile texts(directory_ / kTextsFile);
    const Tokenizer tokenizer = make_tokenizer(texts.text());
    report_.tokenizer_seconds = timer.seconds();
    timer.restart();
    for (const Split split : kSplits) encode(split, texts.text(), tokenizer);
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

  void read();
  void store(const TextFile& file, Document& document, OutputFile& texts);
  void split();
  Tokenizer make_tokenizer(std::string_view texts);
  std::string train(std::string_view texts);
  void encode(Split split, std::string_view texts, const Tokenizer& tokenizer);
  void encode_batch(std::span<const StoredDocument> batch, std::string_view texts,
                    std::vector<WordEncoder>& encoders, Split split, TokenFileWriter& writer);

  const BuildOptions& options_;
  std::vector<TextFile> files_;
  std::vector<std::string> labels_;
  fs::path directory_;
  const ProgressCallback& progress_;
  ThreadPool pool_;
  BuildProgress now_;
  BuildReport report_;
  std::unordered_map<std::string, std::string> name_of_text_;  // by digest: who had it first
  ValidationSplit names_;
  std::vector<StoredDocument> documents_;
  std::array<std::vector<StoredDocument>, 2> sides_;  // by Split, sorted by label
};

void Builder::read() {
  constexpr int64_t kBatchBytes = 8 << 20;
  OutputFile texts(directory_ / kTextsFile);
  now_ = {BuildProgress::Phase::kRead, 0, 0, 0, static_cast<int64_t>(files_.size())};
  for (const TextFile& file : files_) now_.bytes_total += file.size_bytes;
  for (size_t begin = 0; begin < files_.size();) {
    size_t end = begin;
    int64_t bytes = 0;
    while (end < files_.size() && end - begin < 1024 && bytes < kBatchBytes) {
      bytes += files_[end++].size_bytes;
    }
    std::vector<Document> batch(end - begin);
    pool_.parallel_for(static_cast<int64_t>(batch.size()), 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const TextFile& file = files_[begin + i];
        batch[i] = read_document(file.path, options_.sources[file.source].format);
      }
    });
    for (size_t i = 0; i < batch.size(); ++i) store(files_[begin + i], batch[i], texts);
    now_.bytes_done += bytes;
    now_.documents_done += static_cast<int64_t>(batch.size());
    begin = end;
    tell();
  }
  texts.finish();
}

void Builder::store(const TextFile& file, Document& document, OutputFile& texts) {
  for (const std::string& alias : file.aliases) names_.unite(file.name, alias);
  if (!document.redirect.empty()) names_.unite(file.name, document.redirect);
  if (document.text.empty()) {
    ++report_.without_text;
    return;
  }
  const auto [first, is_new] = name_of_text_.try_emplace(digest_of(document.text).hex(), file.name);
  if (!is_new) {
    names_.unite(file.name, first->second);
    ++report_.duplicates;
    return;
  }
  const std::string& label = options_.sources[file.source].label;
  const auto index = std::ranges::find(labels_, label) - labels_.begin();
  documents_.push_back({static_cast<int>(index), file.name, texts.size_bytes(),
                        static_cast<int64_t>(document.text.size())});
  texts.write(document.text);
}

void Builder::split() {
  std::ranges::stable_sort(documents_, {}, &StoredDocument::label);
  for (StoredDocument& document : documents_) {
    const bool held_out = names_.is_validation(document.name, options_.validation_share);
    sides_[held_out ? 1 : 0].push_back(std::move(document));
  }
  for (const Split split : kSplits) {
    const bool wanted = split == Split::kTrain || options_.validation_share > 0;
    if (wanted && sides_[static_cast<size_t>(split)].empty()) {
      throw InputError(
          fmt::format("of {} documents none is left for {}", documents_.size(), name_of(split)),
          options_.sources[0].path.string(),
          "each file is one document: cut large files up, or change "
          "validation_share");
    }
  }
}

Tokenizer Builder::make_tokenizer(std::string_view texts) {
  const std::string model = train(texts);
  Tokenizer tokenizer = Tokenizer::from_bytes(model, kTokenizerFile);
  OutputFile file(directory_ / kTokenizerFile);
  file.write(model);
  file.finish();
  report_.listing.pieces = tokenizer.piece_count();
  report_.listing.tokenizer = {static_cast<int64_t>(model.size()), tokenizer.digest().hex()};
  return tokenizer;
}

// Trains on lines of the training side, drawn evenly when there are more than training_lines.
std::string Builder::train(std::string_view texts) {
  constexpr size_t kLineBytes = 2000;  // the trainer leaves out lines above 4,192 bytes
  std::vector<std::string_view> lines;
  for (const StoredDocument& document : sides_[0]) {
    std::string_view text = texts.substr(document.begin, document.size_bytes);
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      for_each_chunk(line, kLineBytes, [&](std::string_view part) { lines.push_back(part); });
      text.remove_prefix(std::min(line.size() + 1, text.size()));
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

void Builder::encode(Split split, std::string_view texts, const Tokenizer& tokenizer) {
  constexpr int64_t kBatchBytes = 8 << 20;
  const auto s = static_cast<size_t>(split);
  const std::vector<StoredDocument>& documents = sides_[s];
  const fs::path path = directory_ / token_file_name(split);
  TokenFileWriter writer(path, tokenizer.vocabulary(), static_cast<int>(labels_.size()));
  std::vector<WordEncoder> encoders(pool_.size(), WordEncoder(tokenizer));
  report_.listing.counts[s].resize(labels_.size());
  now_ = {BuildProgress::Phase::kEncode, 0, 0, 0, static_cast<int64_t>(documents.size())};
  for (const StoredDocument& document : documents) now_.bytes_total += document.size_bytes;
  for (size_t begin = 0; begin < documents.size();) {
    size_t end = begin;
    int64_t bytes = 0;
    while (end < documents.size() && bytes < kBatchBytes) bytes += documents[end++].size_bytes;
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
  // Pieces never reach over white space, so a text may be encoded in parts cut there: long
  // documents are shared out too, and none needs the encoder's memory for its whole length.
  constexpr size_t kChunkBytes = size_t{16} << 10;
  struct Chunk {
    size_t document;
    std::string_view text;
    std::vector<int32_t> ids;
  };
  std::vector<Chunk> chunks;
  for (size_t d = 0; d < batch.size(); ++d) {
    for_each_chunk(texts.substr(batch[d].begin, batch[d].size_bytes), kChunkBytes,
                   [&](std::string_view text) {
                     chunks.push_back({d, text, {}});
                   });
  }
  // One encoder for each part of the chunks, kept from batch to batch with the words it knows.
  const auto parts = static_cast<int64_t>(encoders.size());
  const auto count = static_cast<int64_t>(chunks.size());
  pool_.parallel_for(parts, 1, [&](int64_t from, int64_t to) {
    for (int64_t part = from; part < to; ++part) {
      for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) {
        encoders[part].encode(chunks[i].text, chunks[i].ids);
      }
    }
  });
  std::vector<int32_t> ids;
  auto chunk = chunks.begin();
  for (size_t d = 0; d < batch.size(); ++d) {
    ids.clear();
    for (; chunk != chunks.end() && chunk->document == d; ++chunk) {
      ids.insert(ids.end(), chunk->ids.begin(), chunk->ids.end());
    }
    writer.add(ids, batch[d].label);
    DatasetListing::Counts& counts =
        report_.listing.counts[static_cast<size_t>(split)][batch[d].label];
    ++counts.documents;
    counts.tokens += static_cast<int64_t>(ids.size());
    counts.text_bytes += batch[d].size_bytes;
  }
}

}  // namespace

BuildReport build_dataset(const BuildOptions& options, const ProgressCallback& progress) {
  check_options(options);
  std::vector<TextFile> files = list_text_files(options.sources);
  std::string build = build_description(options, files);
  if (is_current(options.output, build)) {
    BuildReport report;
    report.built = false;
    report.listing = read_listing(options.output);
    return report;
  }
  BuildDirectory directory(options.output);
  Builder builder(options, std::move(files), std::move(build), directory.path(), progress);
  BuildReport report = builder.run();
  directory.commit();
  return report;
}

}  // namespace switchyard
