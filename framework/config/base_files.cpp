#include "config/base_files.h"

#include <algorithm>
#include <fstream>
#include <system_error>

#include "base/errors.h"
#include "config/config.h"
#include "config/suggest.h"

namespace switchyard {
namespace {

class BaseFiles {
 public:
  explicit BaseFiles(const TypedSections& typed) : typed_(typed) {}

  YamlNode tree(const std::string& text, const std::string& file) {
    YamlNode own = parse_yaml(text, file);
    if (own.kind != YamlNode::Kind::kMap) return own;
    const std::vector<YamlNode> names = take_names(own);
    if (names.empty()) return own;

    open_.push_back({file, canonical(file)});
    YamlNode whole;
    for (const YamlNode& name : names) lay_over(whole, base(name, file), typed_);
    lay_over(whole, std::move(own), typed_);
    open_.pop_back();
    return whole;
  }

 private:
  struct OpenFile {
    std::string shown;
    std::filesystem::path canonical;
  };

  static std::filesystem::path canonical(const std::filesystem::path& path) {
    std::error_code error;
    const std::filesystem::path found = std::filesystem::weakly_canonical(path, error);
    return error ? path.lexically_normal() : found;
  }

  // Takes `base` out of the file's tree: one scalar for each name.
  static std::vector<YamlNode> take_names(YamlNode& root) {
    YamlNode* found = root.find(kBaseKey);
    if (found == nullptr) return {};
    YamlNode given = *found;
    std::erase_if(root.items, [](const YamlNode& item) { return item.key == kBaseKey; });

    std::vector<YamlNode> names;
    if (given.kind == YamlNode::Kind::kSequence) {
      names = std::move(given.items);
    } else {
      names.push_back(given);
    }
    for (const YamlNode& name : names)
      if (name.kind != YamlNode::Kind::kScalar || name.text.empty())
        throw ConfigError("base must name a file, or a list of files", name.where,
                          "write it like 'base: common.yaml' or 'base: [a.yaml, b.yaml]'");
    return names;
  }

  YamlNode base(const YamlNode& name, const std::string& file) {
    const std::filesystem::path path =
        (std::filesystem::path(file).parent_path() / name.text).lexically_normal();
    const std::string shown = printable(path.string());
    if (++files_ > kMaxBaseFiles)
      throw ConfigError("more than " + std::to_string(kMaxBaseFiles) + " base files", name.where,
                        "a file that several bases name is read for each of them");
    const std::optional<std::string> text = read_config_text(path);
    std::error_code error;
    if (!text)
      throw ConfigError(
          (std::filesystem::exists(path, error) ? "can't read base '" : "there is no base '") +
              shown + "'",
          name.where, "its path starts at the folder of the file that names it");
    refuse_cycle(path, name.where);

    YamlNode tree = this->tree(*text, path.string());
    if (tree.kind != YamlNode::Kind::kMap && tree.kind != YamlNode::Kind::kNull)
      throw ConfigError("base '" + shown + "' holds no sections and keys", tree.where,
                        "a base is written like any config");
    std::erase_if(tree.items, [](const YamlNode& item) { return item.key == "name"; });
    return tree;
  }

  void refuse_cycle(const std::filesystem::path& path, const std::string& where) const {
    const std::filesystem::path wanted = canonical(path);
    auto first = std::find_if(open_.begin(), open_.end(),
                              [&](const OpenFile& file) { return file.canonical == wanted; });
    if (first == open_.end()) return;
    std::string round;
    for (; first != open_.end(); ++first) round += printable(first->shown) + " -> ";
    throw ConfigError("base leads back to the file it started from", where,
                      "remove one of these: " + round + printable(path.string()));
  }

  const TypedSections& typed_;
  int files_ = 0;
  std::vector<OpenFile> open_;  // from the config down to the base that is being read
};

}  // namespace

YamlNode read_with_bases(const std::string& text, const std::string& file,
                         const TypedSections& typed) {
  return BaseFiles(typed).tree(text, file);
}

std::optional<std::string> read_config_text(const std::filesystem::path& path) {
  std::error_code error;
  // Asked first: opening a named pipe would wait for somebody to write.
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return std::nullopt;
  std::string text(kMaxYamlBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

}  // namespace switchyard
