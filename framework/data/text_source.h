// Files of text on disk: finds them, reads them, turns them into plain UTF-8. Lines of JSON are
// json_lines.h's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/mapped_file.h"

namespace switchyard {

enum class TextFormat {
  kText,  // plain, UTF-8
  kGzip,  // the same, compressed
  kMan,   // manual pages, compressed or not
  kJsonl  // a JSON object with text or ids on each line, compressed or not: many documents
};
const char* name_of(TextFormat format);  // "text", "gzip", "man", "jsonl"

// Where a line of JSON has what.
struct LineKeys {
  std::string text = "text";
  std::string inputs = "inputs", targets = "targets";
  std::string label;  // empty: the source's label
};

struct TextSource {
  std::string label;           // of all documents, unless keys.label tells them apart
  std::filesystem::path path;  // a file, or a directory that is read with all below it
  TextFormat format = TextFormat::kText;
  LineKeys keys{};
};

// A file to read: one document, but for lines of JSON.
struct TextFile {
  std::filesystem::path path;
  int source = 0;  // index into the sources
  int64_t size_bytes = 0;
  std::string name;                  // see document_name
  std::vector<std::string> aliases;  // names of links that point at the file
};

// What a document is called in whatever language it is: the file's name without compression and,
// for manual pages, without section ("de/man1/tar.1.gz" -> "tar").
std::string document_name(const std::filesystem::path& path, TextFormat format);

// The regular files of the sources, in their order, each directory's sorted by path. Names starting
// with a dot are left out, links to directories not followed, a link to another file of the same
// directory tree is that file's alias. Throws InputError for a path that is missing or holds none.
std::vector<TextFile> list_text_files(const std::vector<TextSource>& sources);

struct Document {
  std::string text;      // UTF-8 without NUL; empty when there is nothing to learn from, as in a
                         // picture
  std::string redirect;  // name of the page that this one points at, if it is only that
};

// Reads a file that is one document. Bytes that are no UTF-8 become U+FFFD. Throws InputError
// naming the file when it can't be read, is damaged, or is larger than 1 GiB when uncompressed.
Document read_document(const std::filesystem::path& path, TextFormat format);

// A file's bytes, decompressed if it is a gzip file; throws as read_document does.
class PlainBytes {
 public:
  explicit PlainBytes(const std::filesystem::path& path);
  std::string_view bytes() const { return is_plain_ ? file_.text() : plain_; }

 private:
  MappedFile file_;
  bool is_plain_;
  std::string plain_;
};

// The text with U+FFFD for what is no UTF-8 and a space for NUL; empty if it is blank.
std::string clean_text(std::string_view bytes);

}  // namespace switchyard
