// What stands on a terminal after a program has written to it: as much of a terminal as the
// progress bar needs.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace switchyard::test {

struct Screen {
  std::vector<std::string> rows{""};     // without wrapping
  std::vector<std::string> overwritten;  // what stood in a row before it was erased

  explicit Screen(const std::string& output) {
    size_t column = 0;
    for (size_t i = 0; i < output.size(); ++i) {
      const char c = output[i];
      if (c == '\r') {
        column = 0;
      } else if (c == '\n') {
        rows.emplace_back();
        column = 0;
      } else if (c == '\x1b') {
        const size_t end = output.find_first_of("Km", i);
        if (end == std::string::npos) break;
        if (output[end] == 'K') erase_from(column);
        i = end;
      } else {
        std::string& row = rows.back();
        if (column == 0 && !row.empty()) overwritten.push_back(row);
        row.resize(std::max(row.size(), column + 1), ' ');
        row[column++] = c;
      }
    }
  }

  bool has_row(const std::string& start) const {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const std::string& row) { return row.rfind(start, 0) == 0; });
  }

 private:
  void erase_from(size_t column) {
    std::string& row = rows.back();
    if (column == 0 && !row.empty()) overwritten.push_back(row);
    row.resize(std::min(row.size(), column));
  }
};

}  // namespace switchyard::test
