#include "safetensors/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"

namespace switchyard {

SafetensorsFile::SafetensorsFile(std::filesystem::path path, FileMapping mapping,
                                 SafetensorsHeader header)
    : path_(std::move(path)), mapping_(std::move(mapping)), header_(std::move(header)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) places_[header_.tensors[i].name] = i;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path, Links links,
                                      FileSystem& files) {
  FileMapping mapping(files, path, links);
  const std::string where = path.string();
  const uint64_t size = mapping.size_bytes();
  const uint64_t length = read_header_length({mapping.data(), size}, size, where);
  const std::string_view json(reinterpret_cast<const char*>(mapping.data()) + 8, length);
  SafetensorsHeader header = parse_header(json, size, where);
  return SafetensorsFile(path, std::move(mapping), std::move(header));
}

const StoredTensor& SafetensorsFile::tensor(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    throw CheckpointError(fmt::format("no tensor \"{}\" in the file", name), path_.string());
  }
  return header_.tensors[found->second];
}

std::span<const std::byte> SafetensorsFile::data(const std::string& name) const {
  const StoredTensor& found = tensor(name);
  return {mapping_.data() + found.begin, found.size_bytes()};
}

Tensor SafetensorsFile::read(const std::string& name) const {
  const StoredTensor& found = tensor(name);
  const auto dtype = dtype_of(found.type);
  const bool fits = std::all_of(found.shape.begin(), found.shape.end(),
                                [](uint64_t size) { return size <= INT64_MAX; });
  if (!dtype || !fits || found.shape.size() > Shape::kMaxRank) {
    throw CheckpointError(fmt::format("tensor \"{}\" of {} dimensions and type {} cannot be used",
                                      name, found.shape.size(), name_of(found.type)),
                          path_.string());
  }
  Tensor copy(*dtype, shape_of(found));
  if (found.size_bytes() > 0) {
    std::memcpy(copy.view().raw(), data(name).data(), found.size_bytes());
  }
  return copy;
}

// A file that the index names.
static SafetensorsFile open_listed(const std::filesystem::path& path, FileSystem& files) {
  try {
    return SafetensorsFile::open(path, Links::kRefuse, files);
  } catch (const CheckpointError& error) {
    if (!error.advice().empty()) throw;
    throw CheckpointError(error.summary(), error.where(),
                          "the index names it: fetch or copy the file again");
  }
}

SafetensorsSet SafetensorsSet::open(const std::filesystem::path& path, const std::string& stem,
                                    FileSystem& files) {
  SafetensorsSet set;
  set.path_ = path;
  std::vector<std::string> listed;
  const int error = files.list(path, listed);
  if (error != 0 && error != ENOTDIR) throw_file_error(error, "cannot read the directory", path);
  const bool is_directory = error == 0;
  const std::string index_name = stem + ".safetensors.index.json";
  if (is_directory && std::binary_search(listed.begin(), listed.end(), index_name)) {
    FileMapping text(files, path / index_name, Links::kRefuse);
    const std::string where = (path / index_name).string();
    if (text.size_bytes() > kMaxHeaderBytes) throw CheckpointError("index too large", where);
    const SafetensorsIndex index =
        parse_index({reinterpret_cast<const char*>(text.data()), text.size_bytes()}, where);
    std::map<std::string, size_t> opened;
    for (const auto& [name, file] : index.file_of) {
      const auto [place, is_new] = opened.try_emplace(file, set.files_.size());
      if (is_new) set.files_.push_back(open_listed(path / file, files));
      set.files_[place->second].tensor(name);
      set.file_of_[name] = place->second;
    }
  } else {
    const auto file = is_directory ? path / (stem + ".safetensors") : path;
    set.files_.push_back(SafetensorsFile::open(file, Links::kFollow, files));
    for (const StoredTensor& tensor : set.files_[0].tensors()) set.file_of_[tensor.name] = 0;
  }
  for (const SafetensorsFile& file : set.files_) {
    for (const std::string& warning : file.warnings()) {
      set.warnings_.push_back(fmt::format("{}: {}", file.path().string(), warning));
    }
    for (const StoredTensor& tensor : file.tensors()) {
      if (!set.file_of_.contains(tensor.name)) {
        set.warnings_.push_back(fmt::format("{}: tensor \"{}\" is not in the index, it is skipped",
                                            file.path().string(), tensor.name));
      }
    }
  }
  for (const auto& [name, file] : set.file_of_) set.names_.push_back(name);
  std::sort(set.names_.begin(), set.names_.end());
  for (const std::string& warning : set.warnings_) log_warning("{}", warning);
  return set;
}

const SafetensorsFile& SafetensorsSet::file_of(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) {
    throw CheckpointError(fmt::format("no tensor \"{}\"", name), path_.string());
  }
  return files_[found->second];
}

std::string shard_name(const std::string& stem, int64_t number, int64_t of) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, number, of);
}

TensorToWrite tensor_to_write(std::string name, TensorView host_tensor) {
  TensorToWrite written{.name = std::move(name), .type = stored_type(host_tensor.dtype())};
  written.shape = stored_shape(host_tensor.shape());
  written.data = {static_cast<const std::byte*>(host_tensor.raw()), host_tensor.size_bytes()};
  return written;
}

void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, FileSystem& files) {
  std::vector<StoredTensor> entries;
  std::unordered_map<std::string, std::span<const std::byte>> data_of;
  for (TensorToWrite& tensor : tensors) {
    data_of[tensor.name] = tensor.data;
    entries.push_back({.name = tensor.name, .type = tensor.type, .shape = tensor.shape});
  }
  const HeaderBytes made = make_header(std::move(entries), metadata, path.string());
  FileOutput out(files, path);
  out.write(made.bytes);
  for (const StoredTensor& tensor : made.header.tensors) {
    const auto data = data_of.at(tensor.name);
    SWITCHYARD_CHECK(data.size() == tensor.size_bytes(), tensor.name, ": ", data.size(), " bytes");
    out.write(data.data(), data.size());
  }
  out.finish();
}

void replace_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata, FileSystem& files) {
  const std::filesystem::path fresh = path.string() + ".new";
  files.remove(fresh);  // left behind by a process that was killed; mostly there is none
  write_safetensors(fresh, std::move(tensors), metadata, files);
  if (const int error = files.rename(fresh, path)) {
    throw_file_error(error, "cannot write the file", path);
  }
}

}  // namespace switchyard
