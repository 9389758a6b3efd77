#include "conversion/output.h"

#include <cerrno>
#include <unordered_map>

#include "base/check.h"
#include "checkpoint/directory.h"
#include "safetensors/element_stream.h"
#include "safetensors/safetensors.h"

namespace switchyard {

namespace {

using Path = std::filesystem::path;

class Writer {
 public:
  Writer(Path directory, const std::vector<WrittenTensor>& tensors, FileSystem& files)
      : directory_(std::move(directory)), tensors_(tensors), files_(files) {}

  void write_texts(const HuggingFaceFiles& beside) {
    for (const auto& [name, text] : beside.texts) write_text(name, text);
    if (beside.tokenizer.empty()) return;
    FileInput in(files_, beside.tokenizer, Links::kFollow);
    std::string model(in.size_bytes(), '\0');
    in.read(0, model.data(), model.size());
    write_text(beside.tokenizer_name, model);
  }

  void write_tensors(uint64_t max_file_bytes) {
    const auto shards = shards_of(tensors_, max_file_bytes);
    if (shards.size() == 1) return write_file("model.safetensors", shards.front());
    SafetensorsIndex index;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name =
          shard_name("model", static_cast<int64_t>(i) + 1, static_cast<int64_t>(shards.size()));
      write_file(name, shards[i]);
      for (const size_t tensor : shards[i]) {
        index.file_of[tensors_[tensor].name] = name;
        index.total_bytes += tensors_[tensor].size_bytes();
      }
    }
    write_text("model.safetensors.index.json", index_text(index));
  }

 private:
  void write_text(const std::string& name, std::string_view text) {
    FileOutput out(files_, directory_ / name);
    out.write(text);
    out.finish();
  }

  void write_file(const std::string& name, const std::vector<size_t>& shard) {
    std::vector<StoredTensor> entries;
    std::unordered_map<std::string_view, const WrittenTensor*> by_name;
    for (const size_t i : shard) {
      const WrittenTensor& tensor = tensors_[i];
      by_name[tensor.name] = &tensor;
      entries.push_back({.name = tensor.name, .type = tensor.type, .shape = tensor.source->shape});
    }
    const HeaderBytes made = make_header(std::move(entries), {}, (directory_ / name).string());
    FileOutput out(files_, directory_ / name);
    out.write(made.bytes);
    for (const StoredTensor& entry : made.header.tensors) {
      uint64_t written = 0;
      by_name.at(entry.name)->read([&](std::span<const std::byte> bytes) {
        out.write(bytes.data(), bytes.size());
        written += bytes.size();
      });
      SWITCHYARD_CHECK(written == entry.size_bytes(), entry.name, ": ", written, " bytes");
    }
    out.finish();
  }

  const Path directory_;
  const std::vector<WrittenTensor>& tensors_;
  FileSystem& files_;
};

}  // namespace

void WrittenTensor::read(const TakeBytes& take) const {
  ElementStream stream(source->type, type, name, take);
  source->read([&](std::span<const std::byte> bytes) { stream.add(bytes); });
  stream.finish();
}

std::vector<std::vector<size_t>> shards_of(const std::vector<WrittenTensor>& tensors,
                                           uint64_t max_file_bytes) {
  std::vector<std::vector<size_t>> shards;
  std::vector<size_t> current;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t size = tensors[i].size_bytes();
    if (size > max_file_bytes) {
      shards.push_back({i});
      continue;
    }
    if (bytes + size > max_file_bytes) {
      shards.push_back(std::move(current));
      current.clear();
      bytes = 0;
    }
    current.push_back(i);
    bytes += size;
  }
  if (!current.empty() || shards.empty()) shards.push_back(std::move(current));
  return shards;
}

void write_hugging_face(const Path& path, const std::vector<WrittenTensor>& tensors,
                        const HuggingFaceFiles& beside, uint64_t max_file_bytes,
                        FileSystem& files) {
  const Path parent = path.has_parent_path() ? path.parent_path() : Path(".");
  const Path writing = parent / (path.filename().string() + ".writing-convert");
  make_directories(parent, files);
  remove_directory(writing, files);  // of a process that was killed
  if (const int error = files.make_directory(writing)) {
    throw_file_error(error, "cannot make the directory", writing);
  }
  try {
    Writer writer(writing, tensors, files);
    writer.write_texts(beside);
    writer.write_tensors(max_file_bytes);
    sync_directory(writing, files);
    if (const int error = files.rename(writing, path)) {
      throw_file_error(error, "cannot rename the finished directory to", path);
    }
  } catch (...) {
    remove_directory(writing, files);
    throw;
  }
  sync_directory(parent, files);
}

}  // namespace switchyard
