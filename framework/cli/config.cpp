#include <fmt/core.h>

#include "cli/verbs.h"
#include "config/key_docs.h"
#include "config/schema.h"
#include "registry/choices.h"

namespace switchyard {

static constexpr const char* kGroup = "config";
static constexpr const char* kSummary = "Show a config, or describe what one can hold";

static void add_show(CommandLine& line) {
  auto arguments = std::make_shared<ConfigArguments>();
  auto origin = std::make_shared<bool>(false);
  auto verb =
      line.verb(kGroup, kSummary, "show",
                "Check a config and print it with every key; the output is itself a config");
  arguments->add_to(verb);
  verb.flag("--origin", *origin, "Say behind each value where it comes from")
      .example("switchyard config show configs/quickstart.yaml --set train.steps=100 --origin")
      .runs([arguments, origin] {
        const Config config = arguments->load();
        fmt::print("{}", *origin ? to_yaml_with_origins(config) : to_yaml(config));
      });
}

void add_config(CommandLine& line) {
  add_show(line);
  line.verb(kGroup, kSummary, "schema", "Print the JSON Schema of configs, for editors")
      .example("switchyard config schema > switchyard.schema.json")
      .runs([] { fmt::print("{}", json_schema(choice_tables())); });
  line.verb(kGroup, kSummary, "docs", "Print the reference of all keys as Markdown")
      .example("switchyard config docs > docs/config.md")
      .runs([] { fmt::print("{}", key_reference(choice_tables())); });
}

}  // namespace switchyard
