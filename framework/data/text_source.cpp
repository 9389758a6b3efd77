#include "data/text_source.h"

#include <zlib.h>

#include <algorithm>
#include <map>
#include <memory>

#include "base/errors.h"
#include "data/roff.h"
#include "data/utf8.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

// Inflates all members of a gzip file.
std::string inflated(std::string_view bytes, const fs::path& path) {
  constexpr size_t kMaxBytes = size_t{1} << 30, kStep = size_t{1} << 18;
  const auto damaged = [&path] {
    return InputError("the file is no whole gzip file", path.string(),
                      "replace it, or take it out of the source");
  };
  if (bytes.size() > kMaxBytes) throw InputError("the file is larger than 1 GiB", path.string());
  z_stream stream{};
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  if (inflateInit2(&stream, kGzipOnly) != Z_OK) throw SpaceError("no memory to inflate a file");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string text;
  for (int status = Z_OK; status != Z_STREAM_END || stream.avail_in > 0;) {
    if (status == Z_STREAM_END) inflateReset(&stream);
    const size_t done = text.size();
    if (done > kMaxBytes) {
      throw InputError("the file is larger than 1 GiB when uncompressed", path.string());
    }
    text.resize(done + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(text.data() + done);
    stream.avail_out = static_cast<uInt>(kStep);
    status = inflate(&stream, Z_NO_FLUSH);
    text.resize(text.size() - stream.avail_out);
    if (status != Z_OK && status != Z_STREAM_END) throw damaged();
    if (status == Z_OK && stream.avail_in == 0 && stream.avail_out > 0) throw damaged();
  }
  return text;
}

void list_directory(const TextSource& source, int index, std::vector<TextFile>& files) {
  const fs::path root = fs::canonical(source.path);
  std::map<fs::path, TextFile> found;  // by path: sorted, whatever order the disk has
  std::vector<std::pair<fs::path, fs::path>> links;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::end(entry); ++entry) {
    const fs::path& path = entry->path();
    if (path.filename().string().starts_with('.')) {
      if (entry->is_directory()) entry.disable_recursion_pending();
      continue;
    }
    std::error_code error;
    if (!entry->is_regular_file(error)) continue;  // a broken link too
    if (entry->is_symlink()) {
      links.emplace_back(path, fs::canonical(path));
      continue;
    }
    found[path] = {path,
                   index,
                   static_cast<int64_t>(entry->file_size()),
                   document_name(path, source.format),
                   {}};
  }
  std::ranges::sort(links);
  for (const auto& [link, target] : links) {
    const std::string name = document_name(link, source.format);
    if (const auto file = found.find(target); file != found.end()) {
      file->second.aliases.push_back(name);
    } else {
      found[link] = {link,
                     index,
                     static_cast<int64_t>(fs::file_size(link)),
                     name,
                     {document_name(target, source.format)}};
    }
  }
  if (found.empty()) {
    throw InputError("the source \"" + source.label + "\" holds no file", source.path.string());
  }
  for (auto& [path, file] : found) {
    file.path = source.path / path.lexically_relative(root);  // as the user wrote it
    files.push_back(std::move(file));
  }
}

}  // namespace

const char* name_of(TextFormat format) {
  switch (format) {
    case TextFormat::kText:
      return "text";
    case TextFormat::kGzip:
      return "gzip";
    case TextFormat::kMan:
      return "man";
    case TextFormat::kJsonl:
      return "jsonl";
  }
  return "";
}

std::string document_name(const fs::path& path, TextFormat format) {
  fs::path name = path.filename();
  if (name.extension() == ".gz") name = name.stem();
  if (format == TextFormat::kMan && name.has_extension()) name = name.stem();
  return name.string();
}

std::vector<TextFile> list_text_files(const std::vector<TextSource>& sources) {
  std::vector<TextFile> files;
  for (size_t index = 0; index < sources.size(); ++index) {
    const TextSource& source = sources[index];
    try {
      const fs::file_status status = fs::status(source.path);
      if (fs::is_directory(status)) {
        list_directory(source, static_cast<int>(index), files);
      } else if (fs::is_regular_file(status)) {
        files.push_back({source.path,
                         static_cast<int>(index),
                         static_cast<int64_t>(fs::file_size(source.path)),
                         document_name(source.path, source.format),
                         {}});
      } else {
        throw InputError("the source \"" + source.label + "\" is neither a file nor a folder",
                         source.path.string(), "correct the path, or fetch the text first");
      }
    } catch (const fs::filesystem_error& error) {
      throw InputError("cannot read the source \"" + source.label + "\": " + error.code().message(),
                       source.path.string());
    }
  }
  return files;
}

// A picture or a program that lies among the texts of a folder: more than one in twenty of its
// first bytes are control characters. Text has a stray one at most.
static bool is_binary(std::string_view bytes) {
  const std::string_view start = bytes.substr(0, 4096);
  const auto controls = std::ranges::count_if(
      start, [](unsigned char byte) { return byte < 0x20 && (byte < '\t' || byte > '\r'); });
  return 20 * controls > static_cast<int64_t>(start.size());
}

Document read_document(const fs::path& path, TextFormat format) {
  const MappedFile file(path);
  std::string plain;
  std::string_view bytes = file.text();
  if (format == TextFormat::kGzip || (format == TextFormat::kMan && is_gzip(bytes))) {
    plain = inflated(bytes, path);
    bytes = plain;
  }
  Document document;
  if (format == TextFormat::kMan) {
    ManPage page = man_page_text(bytes);
    document.text = clean_text(page.text);
    if (!page.redirect.empty()) document.redirect = document_name(page.redirect, format);
  } else {
    if (!is_binary(bytes)) document.text = clean_text(bytes);
  }
  return document;
}

PlainBytes::PlainBytes(const fs::path& path) : file_(path), is_plain_(!is_gzip(file_.text())) {
  if (!is_plain_) plain_ = inflated(file_.text(), path);
}

std::string clean_text(std::string_view bytes) {
  if (bytes.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos) return "";
  std::string text = is_valid_utf8(bytes) ? std::string(bytes) : valid_utf8(bytes);
  std::ranges::replace(text, '\0', ' ');
  if (text.find_first_not_of(" \t\r\n\f\v") == std::string::npos) text.clear();
  return text;
}

}  // namespace switchyard
