#include "config/config.h"

#include <fstream>
#include <sstream>
#include <system_error>

#include "base/errors.h"
#include "config/field_reader.h"
#include "config/key_docs.h"
#include "config/rules.h"

namespace switchyard {

std::string Origins::of(std::initializer_list<std::string> paths) const {
  for (const std::string& path : paths)
    if (const auto found = where_.find(path); found != where_.end()) return found->second;
  return "";
}

Config parse_config(const std::string& text, const std::string& file,
                    const std::vector<std::string>& overrides, const ChoiceTables& tables) {
  YamlNode root = parse_yaml(text, file);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  const std::vector<std::string> paths = known_paths(tables);
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
  std::error_code error;
  const bool regular = std::filesystem::is_regular_file(path, error);
  std::ifstream stream(path, std::ios::binary);
  if (!regular || !stream)
    throw ConfigError(std::filesystem::exists(path, error) ? "the config can't be read"
                                                           : "there is no such config",
                      path.string(),
                      "give the path of a YAML file, such as configs/quickstart.yaml");
  // One byte more than parse_yaml takes, so that it refuses what is larger.
  std::string text(kMaxYamlBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  return parse_config(text, path.string(), overrides, tables);
}

}  // namespace switchyard
