#include "data/token_file.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

static_assert(std::endian::native == std::endian::little, "the format is the memory's layout");

static constexpr char kMagic[8] = {'S', 'W', 'T', 'O', 'K', 'E', 'N', 'S'};
static constexpr uint32_t kVersion = 1;
static constexpr uint64_t kMaxCount = uint64_t{1} << 48;  // keeps every product below inside int64

static uint64_t padded_ids_bytes(const TokenFileHeader& header) {
  return (header.tokens * header.id_bytes + 7) / 8 * 8;
}

static Digest digest_of_header(const TokenFileHeader& header) {
  return digest_of(&header, offsetof(TokenFileHeader, header_xxh3));
}

static bool equal(const Digest& digest, const uint8_t (&bytes)[16]) {
  return std::memcmp(digest.bytes.data(), bytes, sizeof bytes) == 0;
}

void TokenFile::refuse(const std::string& reason) const {
  throw InputError("the token file is unusable: " + reason, path_.string(),
                   "run `switchyard data build` to make the dataset anew");
}

TokenFile::TokenFile(const std::filesystem::path& path) : path_(path), map_(path) {
  if (map_.size_bytes() < sizeof header_) {
    refuse(fmt::format("{} bytes hold no header", map_.size_bytes()));
  }
  std::memcpy(&header_, map_.data(), sizeof header_);
  check_header();
  ids_ = map_.data() + sizeof header_;
  const std::byte* index = ids_ + padded_ids_bytes(header_);
  offsets_ = reinterpret_cast<const int64_t*>(index);
  labels_ = reinterpret_cast<const uint32_t*>(index + (header_.documents + 1) * sizeof(int64_t));
  check_index();
}

void TokenFile::check_header() const {
  if (std::memcmp(header_.magic, kMagic, sizeof kMagic) != 0) refuse("it is none, or unfinished");
  if (header_.version != kVersion) {
    refuse(
        fmt::format("its format is version {}, this program reads {}", header_.version, kVersion));
  }
  if (!equal(digest_of_header(header_), header_.header_xxh3)) refuse("its header is damaged");
  if ((header_.id_bytes != 2 && header_.id_bytes != 4) || header_.tokens > kMaxCount ||
      header_.documents > kMaxCount || header_.vocabulary > (1u << 30) ||
      header_.labels > (1u << 30)) {
    refuse("its header holds impossible numbers");
  }
  const uint64_t expected = sizeof header_ + padded_ids_bytes(header_) +
                            (header_.documents + 1) * sizeof(int64_t) +
                            header_.documents * sizeof(uint32_t);
  if (map_.size_bytes() != expected) {
    refuse(fmt::format("it has {} bytes instead of {}", map_.size_bytes(), expected));
  }
}

void TokenFile::check_index() const {
  const size_t index_bytes =
      (header_.documents + 1) * sizeof(int64_t) + header_.documents * sizeof(uint32_t);
  if (!equal(digest_of(offsets_, index_bytes), header_.index_xxh3)) refuse("its index is damaged");
  if (offsets_[0] != 0 || offsets_[header_.documents] != token_count()) {
    refuse("its index doesn't cover the ids");
  }
  for (uint64_t document = 0; document < header_.documents; ++document) {
    if (offsets_[document] > offsets_[document + 1]) {
      refuse(fmt::format("document {} ends before it begins", document));
    }
    if (labels_[document] >= header_.labels) {
      refuse(fmt::format("document {} has label {} of {}", document, labels_[document],
                         header_.labels));
    }
  }
}

int64_t TokenFile::document_begin(int64_t document) const {
  SWITCHYARD_CHECK(document >= 0 && document <= document_count(), "document ", document);
  return offsets_[document];
}

int TokenFile::document_label(int64_t document) const {
  SWITCHYARD_CHECK(document >= 0 && document < document_count(), "document ", document);
  return static_cast<int>(labels_[document]);
}

void TokenFile::read(int64_t begin, std::span<int32_t> to) const {
  const int64_t count = static_cast<int64_t>(to.size());
  SWITCHYARD_CHECK(begin >= 0 && count <= token_count() && begin <= token_count() - count, "ids ",
                   begin, " + ", count, " of ", token_count());
  uint32_t largest = 0;
  const auto copy = [&]<typename Id>(const Id* from) {
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t id = from[begin + i];
      largest = id > largest ? id : largest;
      to[i] = static_cast<int32_t>(id);
    }
  };
  if (header_.id_bytes == 2) {
    copy(reinterpret_cast<const uint16_t*>(ids_));
  } else {
    copy(reinterpret_cast<const uint32_t*>(ids_));
  }
  if (count > 0 && largest >= header_.vocabulary) {
    refuse(fmt::format("id {} in a vocabulary of {}", largest, header_.vocabulary));
  }
}

void TokenFile::verify() const {
  if (!equal(digest_of(ids_, padded_ids_bytes(header_)), header_.ids_xxh3)) {
    refuse("its ids are damaged");
  }
  std::vector<int32_t> ids(1 << 16);
  for (int64_t begin = 0; begin < token_count(); begin += static_cast<int64_t>(ids.size())) {
    const auto count = std::min(static_cast<int64_t>(ids.size()), token_count() - begin);
    read(begin, {ids.data(), static_cast<size_t>(count)});
  }
}

Digest TokenFile::header_digest() const { return digest_of(&header_, sizeof header_); }

TokenFileWriter::TokenFileWriter(std::filesystem::path path, int vocabulary, int labels)
    : file_(std::move(path)) {
  SWITCHYARD_CHECK(vocabulary > 0 && labels > 0, vocabulary, " ids, ", labels, " labels");
  header_.id_bytes = vocabulary <= (1 << 16) ? 2 : 4;
  header_.vocabulary = static_cast<uint32_t>(vocabulary);
  header_.labels = static_cast<uint32_t>(labels);
  const TokenFileHeader nothing{};
  file_.write(&nothing, sizeof nothing);
}

void TokenFileWriter::add(std::span<const int32_t> ids, int label) {
  SWITCHYARD_CHECK(label >= 0 && label < static_cast<int>(header_.labels), "label ", label);
  packed_.resize(ids.size() * header_.id_bytes);
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint32_t id = static_cast<uint32_t>(ids[i]);
    SWITCHYARD_CHECK(id < header_.vocabulary, "id ", ids[i], " of ", header_.vocabulary);
    std::memcpy(packed_.data() + i * header_.id_bytes, &id, header_.id_bytes);
  }
  file_.write(packed_.data(), packed_.size());
  ids_hasher_.add(packed_.data(), packed_.size());
  offsets_.push_back(offsets_.back() + static_cast<int64_t>(ids.size()));
  labels_.push_back(static_cast<uint32_t>(label));
}

void TokenFileWriter::finish() {
  header_.tokens = static_cast<uint64_t>(offsets_.back());
  header_.documents = labels_.size();
  const std::byte zeros[8]{};
  const size_t padding = padded_ids_bytes(header_) - header_.tokens * header_.id_bytes;
  file_.write(zeros, padding);
  ids_hasher_.add(zeros, padding);

  const size_t offsets_bytes = offsets_.size() * sizeof(int64_t);
  const size_t labels_bytes = labels_.size() * sizeof(uint32_t);
  file_.write(offsets_.data(), offsets_bytes);
  file_.write(labels_.data(), labels_bytes);
  Hasher index_hasher;
  index_hasher.add(offsets_.data(), offsets_bytes);
  index_hasher.add(labels_.data(), labels_bytes);

  std::memcpy(header_.magic, kMagic, sizeof kMagic);
  header_.version = kVersion;
  std::memcpy(header_.ids_xxh3, ids_hasher_.digest().bytes.data(), sizeof header_.ids_xxh3);
  std::memcpy(header_.index_xxh3, index_hasher.digest().bytes.data(), sizeof header_.index_xxh3);
  std::memcpy(header_.header_xxh3, digest_of_header(header_).bytes.data(),
              sizeof header_.header_xxh3);
  file_.write_at(0, &header_, sizeof header_);
  file_.finish();
}

}  // namespace switchyard
