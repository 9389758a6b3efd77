#include <fmt/core.h>

#include "cli/verbs.h"
#include "config/key_docs.h"
#include "registry/choices.h"

namespace switchyard {

void add_help(CommandLine& line) {
  auto key = std::make_shared<std::string>();
  line.verb("help", "Explain a key of the config, or all of them")
      .optional_positional("KEY", *key, "A key or section; without one: this program and all keys")
      .example("switchyard help moe.capacity.train_factor")
      .runs([&line, key] {
        if (!key->empty()) {
          fmt::print("{}\n", help_text(*key, choice_tables()));
          return;
        }
        fmt::print("{}\nKeys of a config:\n", line.help());
        for (const std::string& path : known_paths(document_keys(choice_tables())))
          fmt::print("  {}\n", path);
      });
}

}  // namespace switchyard
