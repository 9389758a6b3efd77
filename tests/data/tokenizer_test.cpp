#include "data/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <thread>

#include "base/errors.h"
#include "data/small_dataset.h"
#include "data/span_corruption.h"
#include "data/tokenizer_trainer.h"
#include "data/word_encoder.h"
#include "support/llama_tokenizer.h"
#include "support/temporary_directory.h"

namespace switchyard {
namespace {

Tokenizer small() { return Tokenizer::from_bytes(small_tokenizer(), "small"); }

std::string train(const TokenizerOptions& options, const std::vector<std::string>& lines) {
  size_t next = 0;
  return train_tokenizer(options, [&](std::string_view& line) {
    if (next == lines.size()) return false;
    line = lines[next++];
    return true;
  });
}

TEST(Tokenizer, VocabularyIsPaddedToAMultipleOf128) {
  EXPECT_EQ(padded_vocabulary(32'000), 32'128);  // T5's
  EXPECT_EQ(padded_vocabulary(28), 128);
  EXPECT_EQ(padded_vocabulary(29), 256);
  EXPECT_EQ(padded_vocabulary(3996), 4096);
}

TEST(Tokenizer, SentinelsDescendFromTheTop) {
  const Tokenizer tokenizer = small();
  EXPECT_EQ(tokenizer.sentinel_id(0), tokenizer.piece_count() + 99);
  EXPECT_EQ(tokenizer.sentinel_id(99), tokenizer.piece_count());
  EXPECT_TRUE(tokenizer.is_sentinel(tokenizer.piece_count()));
  EXPECT_FALSE(tokenizer.is_sentinel(tokenizer.piece_count() - 1));
  EXPECT_FALSE(tokenizer.is_sentinel(tokenizer.piece_count() + 100));
  EXPECT_EQ(tokenizer.piece(tokenizer.sentinel_id(7)), "<extra_id_7>");
  EXPECT_THROW(tokenizer.sentinel_id(100), Error);
}

// Letters the model has never seen are spelt as bytes, so every text comes back.
TEST(Tokenizer, TextsComeBack) {
  const Tokenizer tokenizer = small();
  for (const std::string text :
       {"bakomi turesa", "nolibako", "x", "Grüße, 日本語 и русский", "a\u00e9\U0001F600"}) {
    const auto ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    for (const int32_t id : ids) {
      EXPECT_GT(id, kUnknownId);
      EXPECT_LT(id, tokenizer.piece_count());
    }
  }
  EXPECT_TRUE(tokenizer.encode("").empty());
  EXPECT_LT(tokenizer.encode("bakomi").size(), 6u) << "syllables have pieces of their own";
}

TEST(Tokenizer, SentinelsInTextAreIds) {
  const Tokenizer tokenizer = small();
  const auto ids = tokenizer.encode("bako <extra_id_0> mitu <extra_id_12>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.sentinel_id(0)), 1);
  EXPECT_EQ(ids.back(), tokenizer.sentinel_id(12));
  EXPECT_EQ(tokenizer.decode(ids), "bako <extra_id_0> mitu <extra_id_12>");
  for (const std::string text : {"<extra_id_100>", "<extra_id_-1>", "<extra_id_>", "<extra_id_1",
                                 "<extra_id_99999999999999999999>"}) {
    for (const int32_t id : tokenizer.encode(text)) EXPECT_FALSE(tokenizer.is_sentinel(id)) << text;
  }
}

TEST(Tokenizer, DecodeLeavesOutPadAndEnd) {
  const Tokenizer tokenizer = small();
  auto ids = tokenizer.encode("bakomi");
  ids.push_back(kEosId);
  ids.push_back(kPadId);
  EXPECT_EQ(tokenizer.decode(ids), "bakomi");
  EXPECT_EQ(
      tokenizer.decode(std::vector<int32_t>{tokenizer.vocabulary() - 1}),
      tokenizer.vocabulary() > tokenizer.piece_count() + 100 ? "<unused_id>" : "<extra_id_0>");
  EXPECT_THROW(tokenizer.decode(std::vector<int32_t>{tokenizer.vocabulary()}), Error);
  EXPECT_THROW(tokenizer.decode(std::vector<int32_t>{-1}), Error);
}

TEST(Tokenizer, ThreadsMayEncodeAtOnce) {
  const Tokenizer tokenizer = small();
  const std::string text = "bakomi turesa nolibako mitu";
  const auto expected = tokenizer.encode(text);
  std::vector<int> different(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) different[t] += tokenizer.encode(text) != expected;
      });
    }
  }
  EXPECT_EQ(different, std::vector<int>(4, 0));
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "tokenizer.model";
  EXPECT_THROW(Tokenizer::load(path), InputError);
  std::ofstream(path) << "";
  EXPECT_THROW(Tokenizer::load(path), InputError);
  std::ofstream(path) << "this is no protobuf at all";
  EXPECT_THROW(Tokenizer::load(path), InputError);
  const std::string& model = small_tokenizer();
  for (size_t size = 1; size < model.size(); size += 397) {
    try {
      Tokenizer::from_bytes(std::string_view(model).substr(0, size), "cut");
    } catch (const InputError&) {
    }  // a cut between pieces is a smaller model; crashing is what must not happen
  }
}

// What is special the model's file says, by the pieces' names.
TEST(Tokenizer, HasSentinelsOnlyWhereSpecialIdsAreT5s) {
  std::string model = small_tokenizer();
  const size_t pad = model.find("<pad>");
  ASSERT_NE(pad, std::string::npos);
  model.replace(pad, 5, "<p_d>");
  const Tokenizer without_pad = Tokenizer::from_bytes(model, "t.model");
  EXPECT_EQ(without_pad.ids(), (Vocabulary{.size = small().piece_count(), .eos = kEosId}));
  EXPECT_EQ(small().ids(), (Vocabulary{.size = small().vocabulary(),
                                       .pad = kPadId,
                                       .eos = kEosId,
                                       .first_sentinel = small().piece_count() + 99,
                                       .sentinels = 100}));
  EXPECT_FALSE(small().beginning());
}

// Of Llama's kind. The library by itself is the oracle.
class LlamasTokenizer : public testing::Test {
 protected:
  LlamasTokenizer() : tokenizer_(Tokenizer::from_bytes(llama_tokenizer(), "llama")) {
    EXPECT_TRUE(library_.LoadFromSerializedProto(llama_tokenizer()).ok());
  }
  Tokenizer tokenizer_;
  sentencepiece::SentencePieceProcessor library_;
};

TEST_F(LlamasTokenizer, SaysItsOwnSpecialIds) {
  EXPECT_EQ(tokenizer_.ids(), (Vocabulary{.size = kLlamaPieces, .eos = 2}));
  EXPECT_EQ(tokenizer_.vocabulary(), tokenizer_.piece_count());
  EXPECT_EQ(tokenizer_.beginning(), 1);
  EXPECT_EQ(tokenizer_.piece(0), "<unk>");
  EXPECT_EQ(tokenizer_.piece(2), "</s>");
  EXPECT_THROW(tokenizer_.piece(kLlamaPieces), Error);
  EXPECT_THROW(tokenizer_.sentinel_id(0), Error);
  EXPECT_FALSE(tokenizer_.is_sentinel(kLlamaPieces - 1));
  EXPECT_FALSE(tokenizer_.is_sentinel(kLlamaPieces));
}

TEST_F(LlamasTokenizer, GivesTheLibrarysIdsAndTheTextBack) {
  EXPECT_FALSE(tokenizer_.takes_words_apart());
  EXPECT_TRUE(small().takes_words_apart());
  WordEncoder words(tokenizer_);
  for (const std::string text :
       {"", "abc", "abc def  hik\n\n   kab\tc.", "  leading", "trailing \n",
        "Grüße, 日本語 \U0001F600", "<extra_id_0> a", "</s>", "2026"}) {
    std::vector<int> expected;
    ASSERT_TRUE(library_.Encode(text, &expected).ok());
    EXPECT_EQ(tokenizer_.encode(text), expected) << text;
    std::vector<int32_t> ids;
    words.encode(text, ids);
    EXPECT_EQ(ids, expected) << text;
    ids.insert(ids.begin(), 1);
    ids.push_back(2);
    EXPECT_EQ(tokenizer_.decode(ids), text);
  }
}

TEST(TokenizerTrainer, TheSameTextGivesTheSameModel) {
  std::vector<std::string> lines;
  for (int i = 0; i < 200; ++i) {
    lines.push_back("word" + std::to_string(i * 7919 % 100) + " und " + std::to_string(i));
  }
  const TokenizerOptions options{.vocabulary = 384, .threads = 2};
  EXPECT_EQ(train(options, lines), train(options, lines));
  EXPECT_LE(Tokenizer::from_bytes(train(options, lines), "trained").vocabulary(), 384);
}

TEST(TokenizerTrainer, RefusesOptionsAndTextsThatDoNotDo) {
  EXPECT_THROW(train({}, {}), InputError);
  EXPECT_THROW(train({.vocabulary = 400}, {"a"}), ConfigError);
  EXPECT_THROW(train({.vocabulary = 256}, {"a"}), ConfigError);
  EXPECT_THROW(train({.character_coverage = 0}, {"a"}), ConfigError);
  EXPECT_THROW(train({.threads = 0}, {"a"}), ConfigError);
  // 600 characters don't fit into 284 pieces of which 256 are bytes.
  std::string many;
  for (int i = 0; i < 600; ++i) {
    many += static_cast<char>(0xe4 + i / 400);
    many += static_cast<char>(0x80 + i / 60 % 60);
    many += static_cast<char>(0x80 + i % 60);
  }
  try {
    train({.vocabulary = 384, .character_coverage = 1.0}, {many});
    FAIL() << "trained";
  } catch (const InputError& error) {
    EXPECT_EQ(error.summary(), "a vocabulary of 384 has no room for the text's characters");
  }
}

}  // namespace
}  // namespace switchyard
