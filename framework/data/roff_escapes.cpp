// The escapes of roff: everything that starts with a backslash inside a line.
#include <optional>

#include "data/roff_characters.h"
#include "data/roff_interpreter.h"
#include "data/utf8.h"

namespace switchyard {
namespace {

constexpr int kMaxDepth = 16;

// The name behind an escape such as \f, \*, \n: x, (xx or [any]. Moves position behind it.
std::string_view take_name(std::string_view text, size_t& position) {
  if (position >= text.size()) return {};
  if (text[position] == '(') {
    const size_t begin = std::min(position + 1, text.size());
    position = std::min(position + 3, text.size());
    return text.substr(begin, position - begin);
  }
  if (text[position] == '[') {
    const size_t end = std::min(text.find(']', position), text.size());
    const std::string_view name = text.substr(position + 1, end - position - 1);
    position = std::min(end + 1, text.size());
    return name;
  }
  const size_t begin = position;
  next_utf8(text, position);
  return text.substr(begin, position - begin);
}

// The argument of \h'...', delimited by whatever character comes first. Escapes inside, \w'...' for
// one, may hold the delimiter themselves.
std::string_view take_delimited(std::string_view text, size_t& position) {
  if (position >= text.size()) return {};
  const char delimiter = text[position++];
  const size_t begin = position;
  while (position < text.size() && text[position] != delimiter) {
    const bool nested = text[position] == '\\' && position + 2 < text.size() &&
                        text[position + 1] == 'w' && text[position + 2] == delimiter;
    if (nested) {
      position += 3;
      while (position < text.size() && text[position] != delimiter) ++position;
    } else if (text[position] == '\\' && position + 1 < text.size()) {
      ++position;
    }
    if (position < text.size()) ++position;
  }
  const std::string_view argument = text.substr(begin, position - begin);
  if (position < text.size()) ++position;
  return argument;
}

// \s+1, \s-2, \s10, \s(12, \s[12], \s'12': sizes say nothing here.
void skip_size(std::string_view text, size_t& position) {
  if (position < text.size() && (text[position] == '+' || text[position] == '-')) ++position;
  if (position >= text.size()) return;
  if (text[position] == '\'') {
    take_delimited(text, position);
    return;
  }
  const bool two_digits = text[position] >= '1' && text[position] <= '3' &&
                          position + 1 < text.size() && text[position + 1] >= '0' &&
                          text[position + 1] <= '9' && text[position - 1] == 's';
  if (two_digits) {
    position += 2;
  } else {
    take_name(text, position);
  }
}

// Escapes that always give the same text.
std::optional<std::string_view> constant_escape(char kind) {
  switch (kind) {
    case '-':
      return "-";
    case 'e':
    case '\\':
      return "\\";
    case ' ':
    case '0':
    case '~':
      return " ";
    case 't':
    case 'a':
      return "\t";
    default:
      // Zero-width marks, thin spaces, hyphenation points, braces of conditional blocks.
      if (std::string_view("&)%:/,|^{}udrpzE").find(kind) != std::string_view::npos) return "";
      return std::nullopt;
  }
}

constexpr std::string_view kNamed = "fFmMkgVY$";               // \fB, \f(CW, \f[CW]: dropped
constexpr std::string_view kDelimited = "CNhABwbZovlLDHSxXR";  // \h'...'

}  // namespace

std::string RoffInterpreter::expand(std::string_view text, int depth) {
  std::string expanded;
  expanded.reserve(text.size());
  for (size_t position = 0; position < text.size() && budget_ > 0;) {
    const size_t plain_end = std::min(text.find('\\', position), text.size());
    expanded += text.substr(position, plain_end - position);
    position = plain_end;
    if (position < text.size()) expand_escape(text, position, expanded, depth);
  }
  budget_ -= static_cast<int64_t>(expanded.size()) / 4 + (depth > 0 ? 1 : 0);
  return expanded;
}

// text[position] is the backslash; moves position behind the escape.
void RoffInterpreter::expand_escape(std::string_view text, size_t& position, std::string& to,
                                    int depth) {
  if (++position >= text.size()) return;
  const char kind = text[position++];
  if (const auto constant = constant_escape(kind)) {
    to += *constant;
  } else if (kind == '"' || kind == '#') {
    position = text.size();
  } else if (kind == 'c') {
    joined_by_escape_ = true;
    position = text.size();
  } else if (kind == 's') {
    skip_size(text, position);
  } else if (kind == '(' || kind == '[') {
    --position;
    append_roff_character(take_name(text, position), to);
  } else if (kind == 'n') {
    const bool stepped = position < text.size() && (text[position] == '+' || text[position] == '-');
    if (stepped) ++position;
    append_register(take_name(text, position), to);
  } else if (kind == '*') {
    const auto value = strings_.find(take_name(text, position));
    if (value == strings_.end() || depth >= kMaxDepth) return;
    to += expand(std::string(value->second), depth + 1);
  } else if (kNamed.find(kind) != std::string_view::npos) {
    take_name(text, position);
  } else if (kDelimited.find(kind) != std::string_view::npos) {
    append_delimited(kind, take_delimited(text, position), to, depth);
  } else {
    to += kind;  // an escape that stands for its character
  }
}

void RoffInterpreter::append_delimited(char kind, std::string_view argument, std::string& to,
                                       int depth) {
  switch (kind) {
    case 'C':
      append_roff_character(argument, to);
      return;
    case 'N':
      append_roff_character("char" + std::string(argument), to);
      return;
    case 'h':
      // Pages move right to leave a gap, and left to print bold or to undo that.
      if (!argument.starts_with('-') && !to.empty()) to += ' ';
      return;
    case 'A':
    case 'B':
      to += '1';
      return;
    case 'w':
      if (depth < kMaxDepth) to += std::to_string(expand(argument, depth + 1).size());
      return;
    case 'b':
    case 'Z':
      if (depth < kMaxDepth) to += expand(argument, depth + 1);
      return;
    case 'o': {  // characters on top of each other: the first stands for all
      size_t end = 0;
      if (!argument.empty()) next_utf8(argument, end);
      to += argument.substr(0, end);
      return;
    }
    default:
      return;  // moves and drawings
  }
}

void RoffInterpreter::append_register(std::string_view name, std::string& to) {
  const auto value = registers_.find(name);
  to += std::to_string(value == registers_.end() ? 0 : value->second);
}

}  // namespace switchyard
