#include "data/word_encoder.h"

#include <gtest/gtest.h>

#include "data/small_dataset.h"

namespace switchyard {
namespace {

std::vector<int32_t> encoded(WordEncoder& encoder, const std::string& text) {
  std::vector<int32_t> ids;
  encoder.encode(text, ids);
  return ids;
}

// On short texts SentencePiece's own scores are exact enough to agree everywhere.
TEST(WordEncoder, AgreesWithTheTokenizer) {
  const Tokenizer tokenizer = Tokenizer::from_bytes(small_tokenizer(), "small");
  WordEncoder encoder(tokenizer);
  for (const std::string text :
       {"", " ", "bakomi", "bakomi turesa bakomi", "  bako\tmitu \r\n\n resa ", "Grüße, 日本語 и",
        "a\u3000b\u00a0c", "<extra_id_3> ba", "\u0301x \u200b y"}) {
    EXPECT_EQ(encoded(encoder, text), tokenizer.encode_plain(text)) << text;
    EXPECT_EQ(encoded(encoder, text), tokenizer.encode_plain(text)) << "known: " << text;
  }
  std::string longer;
  for (int i = 0; i < 40; ++i) longer += "bakomitu";
  EXPECT_EQ(encoded(encoder, longer), tokenizer.encode_plain(longer));
}

TEST(WordEncoder, ForgettingChangesNothing) {
  const Tokenizer tokenizer = Tokenizer::from_bytes(small_tokenizer(), "small");
  WordEncoder encoder(tokenizer, 4);
  for (int i = 0; i < 100; ++i) {
    const std::string text = "bakomi w" + std::to_string(i % 7) + " turesa";
    EXPECT_EQ(encoded(encoder, text), tokenizer.encode_plain(text));
  }
}

}  // namespace
}  // namespace switchyard
