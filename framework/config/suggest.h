// Words for error lines: the known word that a misspelt one is closest to, lists, quoted values.
#pragma once

#include <string>
#include <vector>

namespace switchyard {

// Edits (insert, delete, replace, swap neighbours) from one to the other, each place edited once:
// the Damerau-Levenshtein distance in its restricted form. Capitals and '-' for '_' don't count.
size_t edit_distance(const std::string& a, const std::string& b);

// The closest of `known` within 1 edit (short words), 2 or 3 (long ones); empty if none is.
std::string closest(const std::string& word, const std::vector<std::string>& known);

// What an unknown key was most likely meant to be: a key of the same section, as its name, or one
// of another section, as its path; empty if nothing is close.
//   section   path of the section where it stands; empty for the top
//   siblings  the keys of that section
std::string likely_key(const std::string& key, const std::string& section,
                       const std::vector<std::string>& siblings,
                       const std::vector<std::string>& known_paths);

// "a, b, c", cut with "..." where the next one would go beyond `width` characters.
std::string shortened_list(const std::vector<std::string>& words, size_t width = 90);

// "did you mean 'x'? one of: x, y" or, if nothing is close, "one of: x, y".
std::string suggestion(const std::string& word, const std::vector<std::string>& known);

// A user's text for an error line: control characters as '?', cut after `width` bytes with "...".
std::string printable(const std::string& text, size_t width = 80);

}  // namespace switchyard
