#include "data/roff_page.h"

#include "data/utf8.h"

namespace switchyard {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

uint32_t last_character(std::string_view text) {
  size_t position = text.size() - 1;
  while (position > 0 && (static_cast<uint8_t>(text[position]) & 0xC0) == 0x80) --position;
  return next_utf8(text, position);
}

uint32_t first_character(std::string_view text) {
  size_t position = 0;
  return next_utf8(text, position);
}

void append_single_spaced(std::string_view text, std::string& to) {
  bool space = false;
  for (const char c : text) {
    if (is_space(c)) {
      space = true;
      continue;
    }
    if (space && !to.empty() && to.back() != ' ') to += ' ';
    space = false;
    to += c;
  }
  if (space && !to.empty() && to.back() != ' ') to += ' ';
}

}  // namespace

void RoffPage::add(std::string_view line, bool joined) {
  if (!fill_) {
    if (!joined) end_line();
    line_ += line;
    return;
  }
  if (line.empty()) return;
  if (!joined && !line_.empty() && line_.back() != ' ') {
    // Chinese and Japanese have no spaces where a source line ends.
    const bool spaceless = is_spaceless(last_character(line_)) && !is_space(line.front()) &&
                           is_spaceless(first_character(line));
    if (!spaceless) line_ += ' ';
  }
  append_single_spaced(line, line_);
}

void RoffPage::end_line() {
  while (!line_.empty() && is_space(line_.back())) line_.pop_back();
  if (line_.empty()) return;
  if (paragraph_ends_ && !text_.empty()) text_ += '\n';
  paragraph_ends_ = false;
  text_ += line_;
  text_ += '\n';
  line_.clear();
}

void RoffPage::end_paragraph() {
  end_line();
  paragraph_ends_ = true;
}

void RoffPage::heading(std::string_view text) {
  end_paragraph();
  append_single_spaced(trimmed(text), line_);
  end_line();
}

void RoffPage::tag(std::string_view text) {
  constexpr size_t kShort = 4;  // bytes: "12.", a bullet
  end_line();
  append_single_spaced(trimmed(text), line_);
  if (line_.size() > kShort) {
    end_line();
  } else if (!line_.empty()) {
    line_ += ' ';
  }
}

std::string RoffPage::take() {
  end_line();
  return std::move(text_);
}

}  // namespace switchyard
