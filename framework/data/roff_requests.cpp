// The requests of roff itself: definitions, registers, conditions, breaks.
#include <algorithm>
#include <set>

#include "data/roff_interpreter.h"

namespace switchyard {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxValue = 1 << 16;  // bytes of a string

std::string_view without_leading_spaces(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

// The first word; moves text behind it and the spaces that follow.
std::string_view take_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text = without_leading_spaces(text.substr(word.size()));
  return word;
}

// What a definition stores: \\ is \, so that \\$1 becomes the argument only when it is used.
std::string copied(std::string_view line) {
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    text += line[i];
    if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == '\\') ++i;
  }
  return text;
}

// Blocks opened less blocks closed in the line.
int block_depth(std::string_view line) {
  int depth = 0;
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    if (line[i] != '\\') continue;
    depth += line[i + 1] == '{';
    depth -= line[i + 1] == '}';
    ++i;
  }
  return depth;
}

int64_t applied(int64_t value, std::string_view name, int64_t other) {
  if (name == "<=") return value <= other;
  if (name == ">=") return value >= other;
  if (name == "==" || name == "=") return value == other;
  if (name == "<>") return value != other;
  if (name == "<?") return std::min(value, other);
  if (name == ">?") return std::max(value, other);
  if (name == "<") return value < other;
  if (name == ">") return value > other;
  if (name == "&") return value > 0 && other > 0;
  if (name == ":") return value > 0 || other > 0;
  if (name == "+") return value + other;
  if (name == "-") return value - other;
  if (name == "*") return value * other;
  if (other == 0) return 0;
  return name == "/" ? value / other : value % other;
}

}  // namespace

bool RoffInterpreter::request(const std::string& name, std::string_view rest) {
  if (name == "if" || name == "ie") {
    condition(rest, name == "ie");
  } else if (name == "el") {
    const bool holds = !else_conditions_.empty() && !else_conditions_.back();
    if (!else_conditions_.empty()) else_conditions_.pop_back();
    conditional_body(rest, holds);
  } else if (name == "while") {
    evaluate(rest);
    conditional_body(rest, false);
  } else if (name == "br" || name == "ti" || name == "in" || name == "ce") {
    page_.end_line();
  } else if (name == "sp" || name == "bp") {
    page_.end_paragraph();
  } else if (name == "nf" || name == "fi") {
    page_.set_fill(name == "fi");
  } else if (name == "so") {
    if (!has_text_) redirect_ = rest;
  } else if (name == "nop") {
    interpret(rest);
  } else if (name == "eo" || name == "ec") {
    escapes_ = name == "ec";
  } else if (name == "return") {
    if (frames_.size() > 1) frames_.back().next = frames_.back().lines.size();
  } else if (name == "EQ") {
    skip_until("EN");
  } else if (name == "PS") {
    skip_until("PE");
  } else if (name == "TS") {
    table();
  } else {
    return definition(name, rest);
  }
  return true;
}

bool RoffInterpreter::definition(const std::string& name, std::string_view rest) {
  if (name == "de" || name == "de1" || name == "am" || name == "am1") {
    const std::string macro(take_word(rest));
    std::vector<std::string> lines = read_definition(take_word(rest));
    std::vector<std::string>& stored = macros_[macro];
    if (name.starts_with("de")) stored.clear();
    stored.insert(stored.end(), lines.begin(), lines.end());
  } else if (name == "ig") {
    read_definition(take_word(rest));
  } else if (name == "ds" || name == "ds1" || name == "as" || name == "as1") {
    const std::string string(take_word(rest));
    static const std::set<std::string_view> kOurs{"--", "PI", "L\"", "R\"", "C`", "C'"};
    if (kOurs.contains(string)) return true;
    if (rest.starts_with('"')) rest.remove_prefix(1);
    std::string& value = strings_[string];
    if (name.starts_with("ds")) value.clear();
    if (value.size() + rest.size() <= kMaxValue) value += copied(rest);
    budget_ -= static_cast<int64_t>(value.size());
  } else if (name == "nr") {
    const std::string key(take_word(rest));
    const std::string text = expand(rest);
    std::string_view view = text;
    const char sign = view.empty() ? ' ' : view.front();
    const int64_t value = expression(view);
    int64_t& stored = registers_[key];
    stored = sign == '+' || sign == '-' ? stored + value : value;
    stored = std::clamp<int64_t>(stored, -1'000'000'000, 1'000'000'000);
  } else if (name == "rm") {
    for (const std::string& gone : split_arguments(rest)) {
      macros_.erase(gone);
      strings_.erase(gone);
    }
  } else if (name == "rn" || name == "als") {
    const Arguments names = split_arguments(rest);
    if (names.size() < 2) return true;
    const auto& [from, to] =
        name == "rn" ? std::tie(names[0], names[1]) : std::tie(names[1], names[0]);
    if (const auto macro = macros_.find(from); macro != macros_.end()) {
      macros_[to] = std::vector<std::string>(macro->second);
      if (name == "rn") macros_.erase(from);
    }
  } else {
    return false;
  }
  return true;
}

// The lines up to `end` alone on a control line, ".." without one.
std::vector<std::string> RoffInterpreter::read_definition(std::string_view end) {
  const std::string closing = "." + std::string(end.empty() ? "." : end);
  std::vector<std::string> lines;
  std::string line;
  while (next_line(line)) {
    std::string_view text = line;
    if (text.starts_with(closing) && take_word(text) == closing) break;
    lines.push_back(copied(line));
  }
  return lines;
}

void RoffInterpreter::condition(std::string_view rest, bool is_ie) {
  const bool holds = evaluate(rest);
  if (is_ie) {
    if (else_conditions_.size() < 1000) else_conditions_.push_back(holds);
  }
  conditional_body(rest, holds);
}

void RoffInterpreter::conditional_body(std::string_view body, bool holds) {
  body = without_leading_spaces(body);
  if (holds) {
    if (body.starts_with("\\{")) body = without_leading_spaces(body.substr(2));
    if (!body.empty() && body != "\\") interpret(std::string(body));
    return;
  }
  std::string line;
  for (int depth = block_depth(body); depth > 0 && next_line(line);) depth += block_depth(line);
}

bool RoffInterpreter::evaluate(std::string_view& rest) {
  bool negated = false;
  rest = without_leading_spaces(rest);
  while (rest.starts_with('!')) {
    rest.remove_prefix(1);
    negated = !negated;
  }
  return evaluate_plain(rest) != negated;
}

bool RoffInterpreter::evaluate_plain(std::string_view& rest) {
  if (rest.empty()) return false;
  const char kind = rest.front();
  if (std::string_view("ntoev").find(kind) != std::string_view::npos) {
    rest.remove_prefix(1);
    return kind == 'n' || kind == 'o';  // a device that types, an odd page
  }
  if (kind == 'd' || kind == 'r' || kind == 'm' || kind == 'c' || kind == 'F' || kind == 'S') {
    rest = without_leading_spaces(rest.substr(1));
    const std::string_view name = take_word(rest);
    return kind == 'd'   ? macros_.contains(name) || strings_.contains(name)
           : kind == 'r' ? registers_.contains(name)
                         : kind == 'c';
  }
  const bool number =
      kind == '\\' || kind == '(' || kind == '-' || kind == '+' || (kind >= '0' && kind <= '9');
  return number ? number_condition(rest) : text_condition(rest);
}

// 'one'other'
bool RoffInterpreter::text_condition(std::string_view& rest) {
  const char delimiter = rest.front();
  const size_t middle = rest.find(delimiter, 1);
  const size_t end = middle == std::string_view::npos ? middle : rest.find(delimiter, middle + 1);
  if (end == std::string_view::npos) {
    rest = {};
    return false;
  }
  const std::string one = expand(rest.substr(1, middle - 1));
  const std::string other = expand(rest.substr(middle + 1, end - middle - 1));
  rest.remove_prefix(end + 1);
  return one == other;
}

// An expression, up to a space outside parentheses or to the block.
bool RoffInterpreter::number_condition(std::string_view& rest) {
  std::string text;
  int parentheses = 0;
  size_t position = 0;
  while (position < rest.size()) {
    if (rest[position] == '\\') {
      if (position + 1 < rest.size() && rest[position + 1] == '{') break;
      expand_escape(rest, position, text, 0);
      continue;
    }
    parentheses += rest[position] == '(';
    parentheses -= rest[position] == ')';
    if (rest[position] == ' ' && parentheses <= 0) break;
    text += rest[position++];
  }
  rest.remove_prefix(position);
  std::string_view view = text;
  return expression(view) > 0;
}

// Operators apply from left to right, without precedence, as in roff.
int64_t RoffInterpreter::expression(std::string_view& text, int depth) {
  constexpr int64_t kLimit = 1'000'000'000;
  int64_t value = term(text, depth);
  static constexpr std::string_view kOperators[] = {"<=", ">=", "==", "<>", "<?", ">?", "<", ">",
                                                    "=",  "&",  ":",  "+",  "-",  "*",  "/", "%"};
  for (;;) {
    text = without_leading_spaces(text);
    const auto found = std::ranges::find_if(
        kOperators, [&](std::string_view name) { return text.starts_with(name); });
    if (found == std::end(kOperators)) return value;
    const std::string_view name = *found;
    text.remove_prefix(name.size());
    const int64_t other = term(text, depth);
    value = applied(value, name, other);
    value = std::clamp(value, -kLimit, kLimit);
  }
}

int64_t RoffInterpreter::term(std::string_view& text, int depth) {
  text = without_leading_spaces(text);
  if (text.empty() || depth > kMaxDepth) return 0;
  const char first = text.front();
  if (first == '+' || first == '-' || first == '!') {
    text.remove_prefix(1);
    const int64_t value = term(text, depth + 1);
    return first == '+' ? value : first == '-' ? -value : value <= 0;
  }
  if (first == '(') {
    text.remove_prefix(1);
    const int64_t value = expression(text, depth + 1);
    if (text.starts_with(')')) text.remove_prefix(1);
    return value;
  }
  int64_t value = 0;
  bool fraction = false;
  while (!text.empty() && ((text.front() >= '0' && text.front() <= '9') || text.front() == '.')) {
    fraction = fraction || text.front() == '.';
    if (!fraction) value = std::min<int64_t>(value * 10 + (text.front() - '0'), 1'000'000'000);
    text.remove_prefix(1);
  }
  const std::string_view units = "icpPuvnmsfzM";
  if (!text.empty() && units.find(text.front()) != std::string_view::npos) text.remove_prefix(1);
  return value;
}

}  // namespace switchyard
