#include "data/utf8.h"

namespace switchyard {

void append_utf8(uint32_t character, std::string& to) {
  if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
    character = kReplacementCharacter;
  }
  const auto tail = [&](int shift) {
    to += static_cast<char>(0x80 | ((character >> shift) & 0x3F));
  };
  if (character < 0x80) {
    to += static_cast<char>(character);
  } else if (character < 0x800) {
    to += static_cast<char>(0xC0 | (character >> 6));
    tail(0);
  } else if (character < 0x10000) {
    to += static_cast<char>(0xE0 | (character >> 12));
    tail(6);
    tail(0);
  } else {
    to += static_cast<char>(0xF0 | (character >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

uint32_t next_utf8(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint32_t first = byte(position++);
  if (first < 0x80) return first;
  const int tails = first >= 0xC2 && first < 0xE0   ? 1
                    : first >= 0xE0 && first < 0xF0 ? 2
                    : first >= 0xF0 && first < 0xF5 ? 3
                                                    : 0;
  if (tails == 0 || position + tails > text.size()) return kReplacementCharacter;
  uint32_t character = first & (0x3Fu >> tails);
  for (int i = 0; i < tails; ++i) {
    const uint32_t next = byte(position + i);
    if ((next & 0xC0) != 0x80) return kReplacementCharacter;
    character = character << 6 | (next & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  if (character < kSmallest[tails] || character > 0x10FFFF ||
      (character >= 0xD800 && character < 0xE000)) {
    return kReplacementCharacter;
  }
  position += tails;
  return character;
}

bool is_valid_utf8(std::string_view text) {
  for (size_t position = 0; position < text.size();) {
    const size_t begin = position;
    if (next_utf8(text, position) == kReplacementCharacter && position == begin + 1) return false;
  }
  return true;
}

std::string valid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    append_utf8(next_utf8(text, position), valid);
  }
  return valid;
}

bool is_spaceless(uint32_t character) {
  return (character >= 0x2E80 && character < 0xA000) ||  // radicals, punctuation, kana, characters
         (character >= 0xF900 && character < 0xFB00) ||  // compatibility characters
         (character >= 0xFF00 && character < 0xFFA0) ||  // full-width forms
         (character >= 0x20000 && character < 0x40000);
}

}  // namespace switchyard
