// One split of a dataset on disk: the token ids of its documents in one run, with each document's
// place and label. Little-endian; the reader treats the file as hostile.
//
//   0     header, 128 bytes: "SWTOKENS", format version, counts, digests (TokenFileHeader)
//   128   ids, uint16 where the vocabulary has at most 65,536 ids, else uint32; zeros up to 8 bytes
//         offsets, int64 [documents + 1]: document d is the ids offsets[d] .. offsets[d + 1]
//         labels, uint32 [documents]
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/hash.h"
#include "data/mapped_file.h"
#include "data/output_file.h"

namespace switchyard {

// As it stands in the file; no padding inside.
struct TokenFileHeader {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;    // 2 or 4
  uint32_t vocabulary;  // every id lies below
  uint32_t labels;      // every label lies below
  uint64_t tokens, documents;
  uint8_t ids_xxh3[16];     // of the ids with their padding
  uint8_t index_xxh3[16];   // of offsets and labels
  uint8_t reserved[40];     // zero
  uint8_t header_xxh3[16];  // of the 112 bytes before
};
static_assert(sizeof(TokenFileHeader) == 128);

class TokenFile {
 public:
  // Opens and checks all but the ids: magic, version, the header's digest, sizes, and the index
  // with its digest. Throws InputError naming the file and what to do.
  explicit TokenFile(const std::filesystem::path& path);

  int64_t token_count() const { return static_cast<int64_t>(header_.tokens); }
  int64_t document_count() const { return static_cast<int64_t>(header_.documents); }
  int vocabulary() const { return static_cast<int>(header_.vocabulary); }
  int label_count() const { return static_cast<int>(header_.labels); }

  // The first id of a document in [0, document_count()]; the last is token_count().
  int64_t document_begin(int64_t document) const;
  int document_label(int64_t document) const;

  // Copies ids begin .. begin + to.size(). Throws InputError when one isn't below the vocabulary.
  void read(int64_t begin, std::span<int32_t> to) const;

  // Reads everything: the ids' digest and each id. Throws InputError as the constructor does.
  void verify() const;

  Digest header_digest() const;
  int64_t size_bytes() const { return static_cast<int64_t>(map_.size_bytes()); }

 private:
  void check_header() const;
  void check_index() const;
  [[noreturn]] void refuse(const std::string& reason) const;

  std::filesystem::path path_;
  MappedFile map_;
  TokenFileHeader header_{};
  const std::byte* ids_ = nullptr;
  const int64_t* offsets_ = nullptr;
  const uint32_t* labels_ = nullptr;
};

class TokenFileWriter {
 public:
  // Creates the file; see OutputFile for what throws.
  TokenFileWriter(std::filesystem::path path, int vocabulary, int labels);

  // Appends a document of ids in [0, vocabulary).
  void add(std::span<const int32_t> ids, int label);

  // Writes index and header, syncs, closes. Until then the file's header is no header.
  void finish();

 private:
  OutputFile file_;
  TokenFileHeader header_{};
  Hasher ids_hasher_;
  std::vector<int64_t> offsets_{0};
  std::vector<uint32_t> labels_;
  std::vector<std::byte> packed_;
};

}  // namespace switchyard
