// Tables (tbl): every row becomes a line, its cells two spaces apart.
#include <utility>

#include "data/roff_interpreter.h"

namespace switchyard {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_rule(std::string_view cell) {
  return cell == "_" || cell == "=" || cell == "\\_" || cell == "\\=" || cell == "\\^";
}

// The character of tab(X) in a table's options.
char separator_of(std::string_view options, char otherwise) {
  const size_t found = options.find("tab");
  if (found == std::string_view::npos) return otherwise;
  const size_t open = options.find('(', found);
  return open != std::string_view::npos && open + 1 < options.size() ? options[open + 1]
                                                                     : otherwise;
}

}  // namespace

void RoffInterpreter::table() {
  page_.end_paragraph();
  const bool was_filling = page_.fill();
  char separator = '\t';
  bool in_format = true;
  std::string line, row;
  const auto end_row = [&] {
    page_.set_fill(false);
    if (!row.empty()) page_.add(row);
    page_.end_line();
    row.clear();
  };
  // Adds the cells of a line to the row; true when the last one opens a text block.
  const auto add_cells = [&](std::string_view text) {
    for (;;) {
      const size_t end = std::min(text.find(separator), text.size());
      const std::string_view cell = trimmed(text.substr(0, end));
      if (cell == "T{") return true;
      const std::string expanded = is_rule(cell) ? std::string() : expand(cell);
      if (!expanded.empty()) row += (row.empty() ? "" : "  ") + expanded;
      if (end == text.size()) return false;
      text.remove_prefix(end + 1);
    }
  };
  while (next_line(line)) {
    if (line.starts_with(".TE")) break;
    if (line.starts_with(".T&")) {
      in_format = true;
    } else if (in_format) {
      const std::string_view text = trimmed(line);
      if (text.ends_with(';')) separator = separator_of(text, separator);
      in_format = !text.ends_with('.');
    } else if (line.starts_with('.') && line.size() > 1 && (line[1] < '0' || line[1] > '9')) {
      interpret(line);
    } else {
      while (add_cells(line) && next_text_block(line, row)) {
      }
      end_row();
    }
  }
  end_row();
  page_.set_fill(was_filling);
  page_.end_paragraph();
}

// Reads up to T}, appends what it says to the row and leaves the rest of its line in `line`.
bool RoffInterpreter::next_text_block(std::string& line, std::string& row) {
  RoffPage outer = std::exchange(page_, RoffPage());
  bool closed = false;
  while (!closed && next_line(line)) {
    closed = line.starts_with("T}");
    if (!closed) interpret(line);
  }
  std::string block = std::exchange(page_, std::move(outer)).take();
  while (block.ends_with('\n')) block.pop_back();
  for (char& c : block) c = c == '\n' ? ' ' : c;
  if (!block.empty()) row += (row.empty() ? "" : "  ") + block;
  line.erase(0, 2);
  return closed && !line.empty();
}

}  // namespace switchyard
