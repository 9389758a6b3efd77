// The first phase of building a dataset: every document of the sources, once, as plain text (or
// ids) in one file, with its label and with what the split into training and validation goes by.
#pragma once

#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/thread_pool.h"
#include "data/dataset_builder.h"
#include "data/json_lines.h"
#include "data/output_file.h"
#include "data/validation_split.h"

namespace switchyard {

struct StoredDocument {
  int label = 0;
  std::string name;                     // for the split
  int64_t begin = 0;                    // in the store's file
  std::array<int64_t, 2> size_bytes{};  // of the text, or of inputs and targets behind them
  int64_t all_bytes() const { return size_bytes[0] + size_bytes[1]; }
};

class DocumentStore {
 public:
  // Creates the file `path` and reads all files into it.
  //   progress  told after every few megabytes
  // Throws InputError naming the file, and for lines of JSON the line.
  DocumentStore(const BuildOptions& options, const std::vector<TextFile>& files,
                const std::filesystem::path& path, ThreadPool& pool,
                const ProgressCallback& progress);

  const std::vector<std::string>& labels() const { return labels_; }
  // By label, those of a label in the order of the sources. The caller may take them away.
  std::vector<StoredDocument>& documents() { return documents_; }
  ValidationSplit& names() { return names_; }
  int64_t duplicates() const { return duplicates_; }
  int64_t without_text() const { return without_text_; }

 private:
  void read_whole_files(std::span<const TextFile> files);
  void read_lines(const TextFile& file);
  void store_lines(const TextFile& file, const std::vector<LineReader::Line>& lines,
                   const LineLayout& layout);
  // Keeps the document unless its text came before.
  void store(const std::string& name, const std::string& label,
             const std::array<std::string, 2>& parts);
  int label_index(const std::string& label);

  const BuildOptions& options_;
  ThreadPool& pool_;
  const ProgressCallback& progress_;
  BuildProgress now_;
  OutputFile texts_;
  std::vector<std::string> labels_;
  std::unordered_map<std::string, int> label_indices_;
  std::unordered_map<std::string, std::string> name_of_text_;  // by digest: who had it first
  ValidationSplit names_;
  std::vector<StoredDocument> documents_;
  int64_t duplicates_ = 0, without_text_ = 0;
};

}  // namespace switchyard
