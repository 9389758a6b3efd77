#include "config/config.h"

#include "config/small_tables.h"
#include "fuzz/fuzz.h"

// A first line "--set KEY=VALUE" is an override, the rest a config. What is accepted can be printed
// and read again, to the same.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  constexpr std::string_view kSet = "--set ";
  std::string text(fuzz::text_of(data, size));
  std::vector<std::string> overrides;
  if (text.starts_with(kSet)) {
    const size_t end = std::min(text.find('\n'), text.size());
    overrides.push_back(text.substr(kSet.size(), end - kSet.size()));
    text.erase(0, end);
  }
  Config config;
  const bool accepted = fuzz::accepts<ConfigError>(
      [&] { config = parse_config(text, "file.yaml", overrides, test_tables()); });
  if (!accepted) return 0;
  const std::string printed = to_yaml(config);
  const std::string again = to_yaml(parse_config(printed, "file.yaml", {}, test_tables()));
  SWITCHYARD_CHECK(again == printed, printed);
  return 0;
}
