#include "checkpoint/verified_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

static constexpr const char* kAdvice = "use an earlier checkpoint, or another copy of this one";

VerifiedFile::VerifiedFile(FileSystem& files, const std::filesystem::path& directory,
                           const Manifest& manifest, const ManifestFile& record)
    : manifest_(manifest), record_(record), input_(files, directory / record.name, Links::kRefuse) {
  const uint64_t size = input_.size_bytes();
  if (size == record_.size_bytes) return;
  std::string cut;
  for (const ManifestTensor& tensor : manifest_.tensors) {
    for (const TensorSlice& slice : tensor.slices) {
      if (slice.file == record_.name && slice.begin <= size && size < slice.end) {
        cut = fmt::format(": it ends inside tensor \"{}\"", tensor.name);
      }
    }
  }
  throw CheckpointError(
      fmt::format("the file has {} bytes instead of {}{}", size, record_.size_bytes, cut), where(),
      kAdvice);
}

void VerifiedFile::read(uint64_t begin, uint64_t end,
                        const std::function<void(const std::byte*, size_t)>& take) {
  SWITCHYARD_CHECK(begin <= end && end <= record_.size_bytes, where(), ": ", begin, " to ", end);
  while (begin < end) {
    const uint64_t chunk = begin / kChunkBytes;
    if (chunk != chunk_ && !check_chunk(chunk)) {
      const uint64_t first = chunk * kChunkBytes;
      throw CheckpointError(damage(first, std::min(first + kChunkBytes, record_.size_bytes)),
                            where(), kAdvice);
    }
    const uint64_t offset = begin % kChunkBytes;
    const uint64_t piece = std::min(end - begin, bytes_.size() - offset);
    take(bytes_.data() + offset, piece);
    begin += piece;
  }
}

std::string VerifiedFile::read_text(uint64_t begin, uint64_t end) {
  std::string text;
  text.reserve(end - begin);
  read(begin, end, [&text](const std::byte* data, size_t size_bytes) {
    text.append(reinterpret_cast<const char*>(data), size_bytes);
  });
  return text;
}

bool VerifiedFile::check_chunk(uint64_t chunk) {
  chunk_ = UINT64_MAX;
  const uint64_t begin = chunk * kChunkBytes;
  const uint64_t end = std::min(begin + kChunkBytes, record_.size_bytes);
  bytes_.resize(end - begin);
  input_.read(begin, bytes_.data(), bytes_.size());
  if (digest_of(bytes_.data(), bytes_.size()) != record_.chunks[chunk]) return false;
  chunk_ = chunk;
  return true;
}

std::string VerifiedFile::damage(uint64_t begin, uint64_t end) {
  std::string text = fmt::format("the file is damaged between bytes {} and {}", begin, end);
  bool is_first = true;
  for (const ManifestTensor& tensor : manifest_.tensors) {
    for (const TensorSlice& slice : tensor.slices) {
      if (slice.file != record_.name || slice.end <= begin || slice.begin >= end) continue;
      const auto [known, is_new] = damaged_.try_emplace(&slice, false);
      if (is_new) {
        std::vector<std::byte> piece(std::min(kChunkBytes, slice.end - slice.begin));
        Hasher hasher;
        for (uint64_t at = slice.begin; at < slice.end; at += piece.size()) {
          const size_t size = std::min<uint64_t>(piece.size(), slice.end - at);
          input_.read(at, piece.data(), size);
          hasher.add(piece.data(), size);
        }
        known->second = hasher.digest() != slice.digest;
      }
      if (!known->second) continue;
      text += fmt::format("{} tensor \"{}\"", is_first ? ", in" : ",", tensor.name);
      is_first = false;
    }
  }
  return text;
}

}  // namespace switchyard
