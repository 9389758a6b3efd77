// Files of text on disk: finds them, reads them, turns them into plain UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace switchyard {

enum class TextFormat {
  kText,  // plain, UTF-8
  kGzip,  // the same, compressed
  kMan    // manual pages, compressed or not
};
const char* name_of(TextFormat format);  // "text", "gzip", "man"

struct TextSource {
  std::string label;
  std::filesystem::path path;  // a file, or a directory that is read with all below it
  TextFormat format = TextFormat::kText;
};

// A file to read: one document.
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
  std::string text;      // UTF-8 without NUL; empty when there is nothing to learn from
  std::string redirect;  // name of the page that this one points at, if it is only that
};

// Reads a file. Bytes that are no UTF-8 become U+FFFD. Throws InputError naming the file when it
// can't be read, is damaged, or is larger than 1 GiB when uncompressed.
Document read_document(const std::filesystem::path& path, TextFormat format);

}  // namespace switchyard
