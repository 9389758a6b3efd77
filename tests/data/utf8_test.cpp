#include "data/utf8.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Utf8, WritesAndReadsEveryLength) {
  for (const uint32_t character :
       {0x41u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    append_utf8(character, text);
    size_t position = 0;
    EXPECT_EQ(next_utf8(text, position), character);
    EXPECT_EQ(position, text.size());
    EXPECT_TRUE(is_valid_utf8(text));
  }
  std::string euro;
  append_utf8(0x20AC, euro);
  EXPECT_EQ(euro, "\xE2\x82\xAC");
}

// From Markus Kuhn's list of malformed sequences.
TEST(Utf8, ReplacesWhatIsNoCharacter) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(valid_utf8("a\x80z"), "a" + bad + "z");                  // lone tail
  EXPECT_EQ(valid_utf8("\xC3"), bad);                                // cut off
  EXPECT_EQ(valid_utf8("\xE2\x82z"), bad + bad + "z");               // cut off before a letter
  EXPECT_EQ(valid_utf8("\xC0\xAF"), bad + bad);                      // overlong slash
  EXPECT_EQ(valid_utf8("\xE0\x80\xAF"), bad + bad + bad);            // overlong slash
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), bad + bad + bad);            // surrogate
  EXPECT_EQ(valid_utf8("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // above U+10FFFF
  EXPECT_EQ(valid_utf8("Gr\xFC\xDF"
                       "e"),
            "Gr" + bad + bad + "e");  // Latin-1
  EXPECT_EQ(valid_utf8("Grüße 日本"), "Grüße 日本");
  EXPECT_FALSE(is_valid_utf8("a\x80z"));
  EXPECT_TRUE(is_valid_utf8("\xEF\xBF\xBD")) << "U+FFFD itself is a character";
  std::string surrogate;
  append_utf8(0xD800, surrogate);
  EXPECT_EQ(surrogate, bad);
}

TEST(Utf8, KnowsScriptsWithoutSpaces) {
  EXPECT_TRUE(is_spaceless(U'日'));
  EXPECT_TRUE(is_spaceless(U'の'));
  EXPECT_TRUE(is_spaceless(U'。'));
  EXPECT_FALSE(is_spaceless(U'a'));
  EXPECT_FALSE(is_spaceless(U'я'));
  EXPECT_FALSE(is_spaceless(U'한')) << "Korean has spaces";
}

}  // namespace
}  // namespace switchyard
