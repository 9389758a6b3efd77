#include "data/roff_interpreter.h"

#include <utility>

#include "data/utf8.h"

namespace switchyard {
namespace {

constexpr size_t kMaxFrames = 32;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxLine = size_t{1} << 20;  // bytes of a line with its arguments put in

std::vector<std::string> lines_of(std::string_view source) {
  std::vector<std::string> lines;
  while (!source.empty()) {
    const size_t end = std::min(source.find('\n'), source.size());
    std::string_view line = source.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    source.remove_prefix(std::min(end + 1, source.size()));
  }
  return lines;
}

// Ends in a backslash that isn't itself escaped: the next line continues this one.
bool continues(std::string_view line) {
  size_t backslashes = 0;
  while (backslashes < line.size() && line[line.size() - 1 - backslashes] == '\\') ++backslashes;
  return backslashes % 2 == 1;
}

std::string_view without_leading_spaces(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

// Cuts a \" or \# comment off.
std::string_view without_comment(std::string_view line) {
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    if (line[i] != '\\') continue;
    if (line[i + 1] == '"' || line[i + 1] == '#') return line.substr(0, i);
    ++i;
  }
  return line;
}

}  // namespace

ManPage man_page_text(std::string_view source) {
  if (is_valid_utf8(source)) return RoffInterpreter(source).run();
  return RoffInterpreter(valid_utf8(source)).run();
}

RoffInterpreter::RoffInterpreter(std::string_view source)
    : budget_(static_cast<int64_t>(source.size()) * 16 + (1 << 20)) {
  frames_.push_back({lines_of(source), 0, {}});
  // What groff and Pod's preamble define for devices that print: here in a form to read.
  strings_ = {{"lq", "“"}, {"rq", "”"},   {"R", "®"},    {"Tm", "™"},  {"S", ""},   {"--", "--"},
              {"PI", "π"}, {"L\"", "\""}, {"R\"", "\""}, {"C`", "\""}, {"C'", "\""}};
  registers_ = {{".g", 1}, {".l", 80}, {".H", 24}, {".V", 40}};
}

ManPage RoffInterpreter::run() {
  std::string line;
  while (next_line(line)) interpret(line);
  end_link();
  ManPage page{page_.take(), {}};
  if (page.text.empty()) page.redirect = redirect_;
  return page;
}

bool RoffInterpreter::next_line(std::string& line) {
  while (frames_.size() > 1 && frames_.back().next == frames_.back().lines.size()) {
    frames_.pop_back();
  }
  Frame& frame = frames_.back();
  if (budget_ <= 0 || frame.next == frame.lines.size()) return false;
  line = frame.lines[frame.next++];
  while (escapes_ && continues(line) && frame.next < frame.lines.size()) {
    line.pop_back();
    line += frame.lines[frame.next++];
  }
  if (frames_.size() > 1) line = with_arguments(line);
  budget_ -= static_cast<int64_t>(line.size()) + 1;
  return true;
}

void RoffInterpreter::interpret(std::string_view line) {
  if (depth_ >= kMaxDepth) return;
  ++depth_;
  joined_by_escape_ = false;
  if (escapes_) line = without_comment(line);
  if (!line.empty() && (line.front() == '.' || line.front() == '\'')) {
    control_line(without_leading_spaces(line.substr(1)));
  } else {
    text_line(line);
  }
  --depth_;
}

void RoffInterpreter::control_line(std::string_view line) {
  size_t end = 0;
  while (end < line.size() && line[end] != ' ' && line[end] != '\t' && line[end] != '\\') ++end;
  if (end == 0) return;  // an empty request, a comment, the end of a conditional block
  const std::string name(line.substr(0, end));
  const std::string_view rest = without_leading_spaces(line.substr(end));
  if (name == "Dd" || name == "Dt") is_mdoc_ = true;
  if (request(name, rest)) return;
  const auto own = macros_.find(name);
  // A page's own definition of a macro that we know is for a typesetter; ours is for text. .OP is
  // the exception: Tcl's pages use the name for something else.
  if (own != macros_.end() && name == "OP") return call_macro(name, expanded_arguments(rest));
  if (is_mdoc_ && mdoc_macro(name, rest)) return;
  if (man_macro(name, rest)) return;
  if (own != macros_.end()) call_macro(name, split_arguments(rest));
}

void RoffInterpreter::text_line(std::string_view line) {
  if (line.empty()) {
    if (expect_ == Expect::kNothing) page_.end_paragraph();
    return;
  }
  if (page_.fill() && line.front() == ' ') page_.end_line();
  add_text(escapes_ ? expand(line) : std::string(line));
}

void RoffInterpreter::add_text(const std::string& text) {
  has_text_ = true;
  const bool joined = join_next_;
  join_next_ = joined_by_escape_;
  if (expect_ != Expect::kNothing) {
    pending_ += joined || pending_.empty() ? text : ' ' + text;
    if (joined_by_escape_) return;
    const Expect expected = std::exchange(expect_, Expect::kNothing);
    const std::string whole = std::exchange(pending_, {});
    expected == Expect::kTag ? page_.tag(whole) : page_.heading(whole);
    return;
  }
  page_.add(text, joined);
}

std::string RoffInterpreter::with_arguments(std::string_view line) const {
  const Arguments& arguments = frames_.back().arguments;
  std::string text;
  for (size_t i = 0; i < line.size() && text.size() < kMaxLine; ++i) {
    if (line[i] != '\\' || i + 1 == line.size()) {
      text += line[i];
    } else if (line[i + 1] != '$' || i + 2 == line.size()) {
      text += line[i++];
      text += line[i];
    } else {
      const char which = line[i + 2];
      i += 2;
      if (which == '*' || which == '@') {
        for (size_t a = 0; a < arguments.size(); ++a) text += (a > 0 ? " " : "") + arguments[a];
      } else if (which >= '1' && which <= '9' && size_t(which - '1') < arguments.size()) {
        text += arguments[which - '1'];
      }
    }
  }
  return text;
}

void RoffInterpreter::call_macro(const std::string& name, Arguments arguments) {
  const auto found = macros_.find(name);
  if (found == macros_.end() || frames_.size() >= kMaxFrames) return;
  registers_[".$"] = static_cast<int64_t>(arguments.size());
  frames_.push_back({found->second, 0, std::move(arguments)});
}

RoffInterpreter::Arguments RoffInterpreter::split_arguments(std::string_view rest) const {
  Arguments arguments;
  size_t i = 0;
  for (;;) {
    while (i < rest.size() && (rest[i] == ' ' || rest[i] == '\t')) ++i;
    if (i == rest.size()) return arguments;
    std::string argument;
    const bool quoted = rest[i] == '"';
    if (quoted) ++i;
    for (; i < rest.size(); ++i) {
      if (quoted && rest[i] == '"') {
        ++i;
        if (i == rest.size() || rest[i] != '"') break;
        argument += '"';  // two stand for one
      } else if (!quoted && (rest[i] == ' ' || rest[i] == '\t')) {
        break;
      } else if (rest[i] == '\\' && i + 1 < rest.size()) {
        argument += rest[i++];
        argument += rest[i];
      } else {
        argument += rest[i];
      }
    }
    arguments.push_back(std::move(argument));
  }
}

RoffInterpreter::Arguments RoffInterpreter::expanded_arguments(std::string_view rest) {
  Arguments arguments = split_arguments(rest);
  for (std::string& argument : arguments) argument = expand(argument);
  return arguments;
}

void RoffInterpreter::skip_until(std::string_view request) {
  std::string line;
  while (next_line(line)) {
    if ((line.starts_with('.') || line.starts_with('\'')) &&
        without_leading_spaces(std::string_view(line).substr(1)).starts_with(request)) {
      return;
    }
  }
}

}  // namespace switchyard
