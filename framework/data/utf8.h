// The little of UTF-8 that reading text needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

inline constexpr uint32_t kReplacementCharacter = 0xFFFD;

// Appends one character; what is no Unicode scalar value becomes U+FFFD.
void append_utf8(uint32_t character, std::string& to);

// The character that starts at text[position], which is moved behind it. A byte that starts no
// valid sequence (RFC 3629: no overlong forms, no surrogates) is U+FFFD, one byte long. position <
// size.
uint32_t next_utf8(std::string_view text, size_t& position);

bool is_valid_utf8(std::string_view text);

// The text with every invalid byte replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

// Chinese characters, kana and their punctuation: written without spaces between words.
bool is_spaceless(uint32_t character);

}  // namespace switchyard
