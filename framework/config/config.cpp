#include "config/config.h"

#include <system_error>

#include "base/errors.h"
#include "config/base_files.h"
#include "config/field_reader.h"
#include "config/key_docs.h"
#include "config/rules.h"

namespace switchyard {

std::string Origins::of(std::initializer_list<std::string> paths) const {
  for (const std::string& path : paths)
    if (const auto found = where_.find(path); found != where_.end()) return found->second;
  return "";
}

std::string Origins::text(const std::string& path) const {
  if (const auto found = where_.find(path); found != where_.end()) return found->second;
  for (const auto& [section, start] : starts_)
    if (path.compare(0, section.size() + 1, section + ".") == 0)
      return "as " + start + path.substr(section.size());
  return "default";
}

Config parse_config(const std::string& text, const std::string& file,
                    const std::vector<std::string>& overrides, const ChoiceTables& tables) {
  const std::vector<KeyDoc> docs = document_keys(tables);
  const TypedSections typed = typed_sections(docs);
  YamlNode root = read_with_bases(text, file, typed);
  for (const std::string& assignment : overrides) apply_override(root, assignment, typed);
  const std::vector<std::string> paths = known_paths(docs);
  FieldReader reader(root, tables, paths);
  Config config;
  reader.read(config);
  config.origins = reader.origins();
  if (config.name.empty()) config.name = std::filesystem::path(file).stem().string();
  check_rules(config, tables);
  return config;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                   const ChoiceTables& tables) {
  const std::optional<std::string> text = read_config_text(path);
  std::error_code error;
  if (!text)
    throw ConfigError(std::filesystem::exists(path, error) ? "the config can't be read"
                                                           : "there is no such config",
                      path.string(),
                      "give the path of a YAML file, such as configs/quickstart.yaml");
  return parse_config(*text, path.string(), overrides, tables);
}

}  // namespace switchyard
