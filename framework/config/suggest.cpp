#include "config/suggest.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace switchyard {
namespace {

std::string folded(const std::string& word) {
  std::string out;
  for (const char c : word)
    out += c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

size_t edits_allowed(size_t length) { return length <= 3 ? 1 : length <= 9 ? 2 : 3; }

}  // namespace

size_t edit_distance(const std::string& a_word, const std::string& b_word) {
  const std::string a = folded(a_word), b = folded(b_word);
  // Three rows of the usual table: two back (for swaps), one back, current.
  std::array<std::vector<size_t>, 3> row;
  for (auto& cells : row) cells.resize(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[1][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[2][0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[2][j] = std::min(
          {row[1][j] + 1, row[2][j - 1] + 1, row[1][j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[2][j] = std::min(row[2][j], row[0][j - 2] + 1);
    }
    std::rotate(row.begin(), row.begin() + 1, row.end());
  }
  return row[1][b.size()];
}

std::string closest(const std::string& word, const std::vector<std::string>& known) {
  if (word.size() > 100) return "";  // no typo of ours, and the table would be large
  std::string best;
  size_t best_distance = edits_allowed(word.size()) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance >= best_distance || distance >= candidate.size()) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

std::string likely_key(const std::string& key, const std::string& section,
                       const std::vector<std::string>& siblings,
                       const std::vector<std::string>& known_paths) {
  const std::string sibling = closest(key, siblings);
  if (!sibling.empty() && edit_distance(key, sibling) <= 1) return sibling;

  // The key in another section, misspelt or not; among several the one that shares most of the
  // path.
  const std::string wrong_place = section.empty() ? key : section + "." + key;
  std::string elsewhere;
  size_t leaf_distance = 3, shared = 0;
  for (const std::string& path : known_paths) {
    const std::string leaf = path.substr(path.rfind('.') + 1);
    const size_t distance = edit_distance(key, leaf);
    const auto [stop, unused] =
        std::mismatch(path.begin(), path.end(), wrong_place.begin(), wrong_place.end());
    const auto same = static_cast<size_t>(stop - path.begin());
    if (distance > leaf_distance || distance >= std::min<size_t>(leaf.size(), 3)) continue;
    if (distance > edits_allowed(key.size())) continue;
    if (distance == leaf_distance && same <= shared) continue;
    elsewhere = path;
    leaf_distance = distance;
    shared = same;
  }
  return sibling.empty() || leaf_distance == 0 ? elsewhere : sibling;
}

std::string shortened_list(const std::vector<std::string>& words, size_t width) {
  std::string out;
  for (const std::string& word : words) {
    if (out.size() + word.size() + 2 > width) return out + ", ...";
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = closest(word, known);
  const std::string all = "one of: " + shortened_list(known);
  return near.empty() ? all : "did you mean '" + near + "'? " + all;
}

std::string printable(const std::string& text, size_t width) {
  std::string out = text;
  if (out.size() > width) {
    while (width > 0 && (static_cast<unsigned char>(out[width]) & 0xC0) == 0x80) --width;
    out = out.substr(0, width) + "...";  // cut between characters of UTF-8
  }
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return out;
}

}  // namespace switchyard
