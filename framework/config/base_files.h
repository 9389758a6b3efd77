// Follows `base:`, by which a config names others that it goes on from: a file's keys stand over
// those of its bases, later bases over earlier ones. It knows nothing of what the keys mean.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "config/yaml_node.h"

namespace switchyard {

inline constexpr int kMaxBaseFiles = 100;  // read for one config

// The tree of `text`, laid over the files that its `base` names, relative to the folder of `file`;
// `base` itself is gone. Every node knows the file and place it comes from. A base's `name` isn't
// taken: two configs on one base must not share the run directory. Throws ConfigError for files
// that can't be read, that lead back to themselves, and as parse_yaml.
YamlNode read_with_bases(const std::string& text, const std::string& file,
                         const TypedSections& typed);

// The text of a regular file; of more than kMaxYamlBytes only so much that parse_yaml refuses it.
// Nothing if it can't be read.
std::optional<std::string> read_config_text(const std::filesystem::path& path);

}  // namespace switchyard
