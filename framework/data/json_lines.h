// Files with a JSON object on each line: running text, pairs of inputs and targets, or the ids of
// either.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "data/dataset_listing.h"
#include "data/text_source.h"

namespace switchyard {

// What the lines of a source have to hold.
struct LineLayout {
  ExampleKind examples = ExampleKind::kText;
  LineKeys keys{};
  std::optional<Vocabulary> ids{};  // lists of ids of this vocabulary; none: text
};

struct LineDocument {
  // The text, or inputs and targets: UTF-8, or ids as int32 one after the other. Empty parts mean
  // that there is nothing to learn from.
  std::array<std::string, 2> parts;
  std::string label;  // empty without keys.label
  // What is wrong with the line and what to do; `wrong` is empty if nothing is.
  std::string wrong, advice;
};

// Parses one line. Never throws for what stands in it.
LineDocument parse_line(std::string_view line, const LineLayout& layout);

// Cuts a text into lines, counting them; lines without anything but white space are passed over.
class LineReader {
 public:
  explicit LineReader(std::string_view text);

  struct Line {
    int64_t number;  // from 1
    std::string_view text;
  };
  std::optional<Line> next();

 private:
  std::string_view rest_;
  int64_t number_ = 0;
};

}  // namespace switchyard
