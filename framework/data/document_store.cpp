#include "data/document_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/errors.h"

namespace switchyard {

static constexpr int64_t kBatchBytes = 8 << 20;

DocumentStore::DocumentStore(const BuildOptions& options, const std::vector<TextFile>& files,
                             const std::filesystem::path& path, ThreadPool& pool,
                             const ProgressCallback& progress)
    : options_(options), pool_(pool), progress_(progress), texts_(path) {
  // Labels that the config names come first, in its order, whatever documents there are.
  for (const TextSource& source : options.sources) {
    if (source.keys.label.empty()) label_index(source.label);
  }
  now_ = {BuildProgress::Phase::kRead, 0, 0, 0, static_cast<int64_t>(files.size())};
  for (const TextFile& file : files) now_.bytes_total += file.size_bytes;
  const auto has_lines = [&](const TextFile& file) {
    return options_.sources[file.source].format == TextFormat::kJsonl;
  };
  for (size_t begin = 0; begin < files.size();) {
    if (has_lines(files[begin])) {
      read_lines(files[begin++]);
      continue;
    }
    size_t end = begin;
    for (int64_t bytes = 0; end < files.size() && end - begin < 1024 && bytes < kBatchBytes;) {
      if (has_lines(files[end])) break;
      bytes += files[end++].size_bytes;
    }
    read_whole_files({files.data() + begin, end - begin});
    begin = end;
  }
  texts_.finish();
  std::ranges::stable_sort(documents_, {}, &StoredDocument::label);
}

void DocumentStore::read_whole_files(std::span<const TextFile> files) {
  std::vector<Document> batch(files.size());
  pool_.parallel_for(static_cast<int64_t>(batch.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      batch[i] = read_document(files[i].path, options_.sources[files[i].source].format);
    }
  });
  for (size_t i = 0; i < files.size(); ++i) {
    const TextFile& file = files[i];
    for (const std::string& alias : file.aliases) names_.unite(file.name, alias);
    if (!batch[i].redirect.empty()) names_.unite(file.name, batch[i].redirect);
    store(file.name, options_.sources[file.source].label, {std::move(batch[i].text), ""});
    now_.bytes_done += file.size_bytes;
  }
  now_.documents_done += static_cast<int64_t>(files.size());
  if (progress_) progress_(now_);
}

void DocumentStore::read_lines(const TextFile& file) {
  const PlainBytes plain(file.path);
  const LineLayout layout{options_.examples, options_.sources[file.source].keys,
                          options_.vocabulary};
  LineReader reader(plain.bytes());
  std::vector<LineReader::Line> lines;
  int64_t bytes = 0;
  while (const auto line = reader.next()) {
    lines.push_back(*line);
    bytes += static_cast<int64_t>(line->text.size());
    if (bytes < kBatchBytes) continue;
    store_lines(file, lines, layout);
    lines.clear();
    bytes = 0;
    if (progress_) progress_(now_);
  }
  store_lines(file, lines, layout);
  now_.bytes_done += file.size_bytes;
  ++now_.documents_done;
  if (progress_) progress_(now_);
}

void DocumentStore::store_lines(const TextFile& file, const std::vector<LineReader::Line>& lines,
                                const LineLayout& layout) {
  std::vector<LineDocument> batch(lines.size());
  pool_.parallel_for(static_cast<int64_t>(batch.size()), 16, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) batch[i] = parse_line(lines[i].text, layout);
  });
  for (size_t i = 0; i < batch.size(); ++i) {
    const LineDocument& document = batch[i];
    if (!document.wrong.empty()) {
      throw InputError(document.wrong, fmt::format("{}:{}", file.path.string(), lines[i].number),
                       document.advice);
    }
    // What a line says is its name: neither its place nor its file decides on which side it is, and
    // pairs with the same inputs are on one side.
    const std::string& label =
        layout.keys.label.empty() ? options_.sources[file.source].label : document.label;
    store("line " + digest_of(document.parts[0]).hex(), label, document.parts);
  }
}

void DocumentStore::store(const std::string& name, const std::string& label,
                          const std::array<std::string, 2>& parts) {
  const bool pairs = options_.examples == ExampleKind::kPairs;
  if (parts[0].empty() || (pairs && parts[1].empty())) {
    ++without_text_;
    return;
  }
  std::string digest = digest_of(parts[0]).hex();
  if (pairs) digest += digest_of(parts[1]).hex();
  const auto [first, is_new] = name_of_text_.try_emplace(std::move(digest), name);
  if (!is_new) {
    names_.unite(name, first->second);
    ++duplicates_;
    return;
  }
  documents_.push_back(
      {label_index(label),
       name,
       texts_.size_bytes(),
       {static_cast<int64_t>(parts[0].size()), static_cast<int64_t>(parts[1].size())}});
  texts_.write(parts[0]);
  texts_.write(parts[1]);
}

int DocumentStore::label_index(const std::string& label) {
  constexpr size_t kMaxLabels = 1000;
  const auto [place, is_new] = label_indices_.try_emplace(label, static_cast<int>(labels_.size()));
  if (is_new) labels_.push_back(label);
  if (labels_.size() > kMaxLabels) {
    throw InputError(fmt::format("there are more than {} labels", kMaxLabels), "",
                     "losses are shown by label: give a label_key with few values");
  }
  return place->second;
}

}  // namespace switchyard
