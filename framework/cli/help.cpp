#include <fmt/core.h>

#include "cli/verbs.h"
#include "config/key_docs.h"
#include "registry/choices.h"

namespace switchyard {

void add_help(CLI::App& app, Verb& run) {
  auto* verb = app.add_subcommand("help", "Explain a key of the config, or all of them");
  verb->footer("Example:  switchyard help moe.capacity.train_factor");
  auto key = std::make_shared<std::string>();
  verb->add_option("KEY", *key, "A key or section; without one: this program and all keys");
  verb->callback([&app, &run, key] {
    run = [&app, key] {
      if (key->empty()) {
        fmt::print("{}\nKeys of a config:\n", app.help());
        for (const std::string& path : known_paths(choice_tables())) fmt::print("  {}\n", path);
      } else {
        fmt::print("{}\n", help_text(*key, choice_tables()));
      }
    };
  });
}

}  // namespace switchyard
