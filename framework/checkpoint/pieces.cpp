#include "checkpoint/pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/errors.h"
#include "safetensors/header.h"

namespace switchyard {

PiecesByFile pieces_by_file(const Manifest& manifest) {
  PiecesByFile files;
  for (const ManifestTensor& tensor : manifest.tensors) {
    for (size_t i = 0; i < tensor.slices.size(); ++i) {
      files[tensor.slices[i].file].push_back({&tensor, i});
    }
  }
  for (auto& [file, pieces] : files) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return std::pair(a.place().begin, a.place().end) < std::pair(b.place().begin, b.place().end);
    });
  }
  return files;
}

void check_header(VerifiedFile& file, const std::vector<Piece>& pieces) {
  const std::string where = file.where();
  const std::string first = file.read_text(0, std::min<uint64_t>(8, file.size_bytes()));
  const auto* bytes = reinterpret_cast<const std::byte*>(first.data());
  const uint64_t length = read_header_length({bytes, first.size()}, file.size_bytes(), where);
  const auto header = parse_header(file.read_text(8, 8 + length), file.size_bytes(), where);
  std::unordered_map<std::string_view, const StoredTensor*> in_file;
  for (const StoredTensor& stored : header.tensors) in_file[stored.name] = &stored;
  for (const Piece& piece : pieces) {
    const ManifestTensor& tensor = *piece.tensor;
    const TensorSlice& slice = piece.place();
    const std::string name = tensor.slice_name(piece.slice);
    const auto found = in_file.find(name);
    const bool is_whole = tensor.slices.size() == 1;
    if (found == in_file.end() || found->second->type != tensor.type ||
        found->second->begin != slice.begin || found->second->end != slice.end ||
        (is_whole && found->second->shape != tensor.shape)) {
      throw CheckpointError(
          fmt::format("the file and the manifest disagree about tensor \"{}\"", name), where);
    }
    in_file.erase(found);
  }
  if (!in_file.empty()) {
    throw CheckpointError(
        fmt::format("the manifest does not know tensor \"{}\" of the file", in_file.begin()->first),
        where);
  }
}

}  // namespace switchyard
