// Answers of both families of models, however they are computed: with a cache or without, side by
// side or alone, on one rank or several.
#include "generation/generator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backends/reference/reference_kernels.h"
#include "collectives/single.h"
#include "collectives/threaded.h"
#include "data/small_dataset.h"
#include "generation/text_stream.h"
#include "registry/choices.h"
#include "registry/make_model.h"
#include "support/backends.h"
#include "support/op_case.h"

namespace switchyard::test {
namespace {

using Ids = std::vector<int32_t>;

constexpr int kVocabulary = 23;

constexpr const char* kDecoder = R"(
device: reference
model: {type: decoder_lm, d_model: 10, d_kv: 6, d_ff: 7, heads: 4, kv_heads: 2,
        layers: 3, activation: swiglu, dropout: 0.2, rope_theta: 100, sliding_window: 6,
        qk_norm: per_head, norm_epsilon: 1.0e-3, init_deviation: 0.4}
data: {task: causal, length: 64}
moe: {experts: 3, layers: [1, 2], capacity: {overflow: dropless}, router: {type: switch}}
)";
constexpr const char* kT5 = R"(
device: reference
model: {type: switch_t5, d_model: 10, d_kv: 6, d_ff: 7, heads: 4,
        encoder_layers: 2, decoder_layers: 2, dropout: 0.2, init_scale: 4.0,
        relative_attention: {buckets: 8, max_distance: 10}}
moe: {experts: 3, capacity: {overflow: dropless}}
)";

const Vocabulary kIds{.size = 21, .pad = 0, .eos = 1};
const std::vector<Ids> kPrompts = {
    {5, 3, 9, 12, 8}, {7, 2}, {4, 11, 6}, {19}, {3, 3, 3, 3, 3, 3, 3}};

struct Case {
  std::string name;
  const char* yaml;
  bool float64;

  bool has_encoder() const { return yaml == kT5; }
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// The reference, or the widest instruction set.
std::unique_ptr<Kernels> kernels_for(const Case& c) {
  if (c.float64) return make_reference_kernels();
  std::vector<BackendUnderTest> usable = backends_under_test();
  std::erase_if(usable, [](const BackendUnderTest& backend) { return !backend.usable; });
  return usable.back().make();
}

// A rank's model, with weights of a seed.
class Rank {
 public:
  Rank(const Case& c, Collectives& world)
      : config_(parse_config(c.yaml, "test.yaml", {}, choice_tables())),
        groups_(make_groups(world, world.size())),
        kernels_(kernels_for(c)) {
    config_.train.precision =
        c.float64 ? TrainConfig::Precision::kFloat64 : TrainConfig::Precision::kFloat32;
    config_.seed = 4;
    model_ = make_model(config_, kVocabulary, *kernels_, groups_);
  }

  Model& model() { return *model_; }
  Workspace workspace() { return {*kernels_, groups_, 0}; }
  std::vector<Ids> answers(const std::vector<Ids>& prompts, const Generator::Options& options,
                           const Generator::OnToken& on_token = {}) {
    Generator generator(*kernels_, groups_, *model_, kIds, options);
    return generator.answer(prompts, on_token);
  }

 private:
  Config config_;
  Groups groups_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Model> model_;
};

Generator::Options options_of(const Case& c, bool cached = true, int64_t max_tokens = 9) {
  return {
      .decoding = {.has_encoder = c.has_encoder(), .encoder_length = 8, .max_tokens = max_tokens},
      .cached = cached};
}

// The logits of five tokens behind each prompt, which are given: [step][prompt][V].
using Logits = std::vector<std::vector<Numbers>>;
Logits forced_logits(const Case& c, Rank& rank, const std::vector<Ids>& prompts, bool cached) {
  Workspace workspace = rank.workspace();
  const DecodingOptions options = options_of(c).decoding;
  const auto decoding = cached ? make_cached_decoding(rank.model(), workspace, options)
                               : make_uncached_decoding(rank.model(), workspace, options);
  std::vector<DecoderSequence> sequences;
  for (const Ids& prompt : prompts) {
    if (c.has_encoder()) {
      sequences.push_back({.encoder_ids = prompt, .ids = {0}});
    } else {
      sequences.push_back({.ids = prompt});
    }
  }
  Logits logits(5);
  for (size_t step = 0; step < logits.size(); ++step) {
    const std::vector<double> all = decoding->next(sequences);
    EXPECT_EQ(all.size(), prompts.size() * kVocabulary);
    for (size_t row = 0; row < sequences.size(); ++row) {
      const auto begin = all.begin() + static_cast<int64_t>(row) * kVocabulary;
      logits[step].emplace_back(begin, begin + kVocabulary);
      // The same for a prompt whatever stands beside it.
      const auto next = static_cast<int32_t>(2 + (step * 7 + prompts[row].size() * 5) % 19);
      sequences[row].ids.push_back(next);
    }
  }
  return logits;
}

void expect_close(const Logits& actual, const Logits& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t step = 0; step < expected.size(); ++step) {
    ASSERT_EQ(actual[step].size(), expected[step].size());
    for (size_t row = 0; row < expected[step].size(); ++row) {
      EXPECT_LE(relative_difference(actual[step][row], expected[step][row]), tolerance)
          << "step " << step << ", row " << row;
    }
  }
}

class Generation : public testing::TestWithParam<Case> {
 protected:
  double tolerance() const { return GetParam().float64 ? 1e-12 : 1e-5; }
  void on_one_rank(const std::function<void(Rank&)>& body) const {
    const auto world = make_single_collectives();
    Rank rank(GetParam(), *world);
    body(rank);
  }
};

TEST_P(Generation, CachedLogitsAreTheUncachedOnesBatchedAndAlone) {
  on_one_rank([&](Rank& rank) {
    Logits alone(5);
    for (const Ids& prompt : kPrompts) {
      const Logits one = forced_logits(GetParam(), rank, {prompt}, false);
      for (size_t step = 0; step < alone.size(); ++step) alone[step].push_back(one[step].front());
      expect_close(forced_logits(GetParam(), rank, {prompt}, true), one, tolerance());
    }
    expect_close(forced_logits(GetParam(), rank, kPrompts, false), alone, tolerance());
    expect_close(forced_logits(GetParam(), rank, kPrompts, true), alone, tolerance());
    // Not all the same, whatever was asked.
    EXPECT_GT(relative_difference(alone[0][0], alone[0][1]), 1e-3);
    EXPECT_GT(relative_difference(alone[1][0], alone[0][0]), 1e-3);
  });
}

// Ranks with several prompts, with one, and with none, whose experts the others want.
TEST_P(Generation, LogitsOnSeveralRanksAreThoseOfOne) {
  Logits expected;
  on_one_rank([&](Rank& rank) { expected = forced_logits(GetParam(), rank, kPrompts, false); });
  const std::vector<std::vector<size_t>> shares = {{0, 2, 4}, {}, {3, 1}};
  for (const bool cached : {true, false}) {
    run_threaded_ranks(3, [&](Collectives& world) {
      Rank rank(GetParam(), world);
      const std::vector<size_t>& share = shares[static_cast<size_t>(world.rank())];
      std::vector<Ids> prompts;
      Logits wanted(5);
      for (const size_t prompt : share) {
        prompts.push_back(kPrompts[prompt]);
        for (size_t step = 0; step < 5; ++step) wanted[step].push_back(expected[step][prompt]);
      }
      expect_close(forced_logits(GetParam(), rank, prompts, cached), wanted, tolerance());
    });
  }
}

TEST_P(Generation, AnswersAreTheSameHoweverTheyAreComputed) {
  for (const double temperature : {0.0, 0.8}) {
    const auto with = [&](bool cached) {
      Generator::Options options = options_of(GetParam(), cached);
      options.sampling = {.temperature = temperature, .top_p = 0.9, .seed = 3};
      return options;
    };
    std::vector<Ids> expected;
    on_one_rank([&](Rank& rank) {
      std::vector<Ids> shown(kPrompts.size());
      expected = rank.answers(kPrompts, with(true), [&](int64_t prompt, int32_t id) {
        shown[static_cast<size_t>(prompt)].push_back(id);
      });
      EXPECT_EQ(shown, expected);
      EXPECT_EQ(rank.answers(kPrompts, with(false)), expected);
      EXPECT_EQ(rank.answers({kPrompts[0]}, with(true)).front(), expected[0]);
    });
    size_t longest = 0;
    for (const Ids& answer : expected) longest = std::max(longest, answer.size());
    EXPECT_GT(longest, 2u);
    EXPECT_LE(longest, 9u);
    for (const int ranks : {2, 3, 8}) {
      run_threaded_ranks(ranks, [&](Collectives& world) {
        Rank rank(GetParam(), world);
        EXPECT_EQ(rank.answers(kPrompts, with(true)), expected) << ranks << " ranks";
      });
    }
  }
}

// More prompts than a rank works on at once, and an answer that ends early.
TEST_P(Generation, TakesManyPromptsInRounds) {
  std::vector<Ids> prompts;
  for (int i = 0; i < 2 * Generator::kPromptsAtOnce + 3; ++i) {
    prompts.push_back({2 + i % 19, 2 + i * 7 % 19});
  }
  on_one_rank([&](Rank& rank) {
    const std::vector<Ids> answers = rank.answers(prompts, options_of(GetParam(), true, 3));
    ASSERT_EQ(answers.size(), prompts.size());
    EXPECT_EQ(answers.back(),
              rank.answers({prompts.back()}, options_of(GetParam(), true, 3)).front());
    for (const Ids& answer : answers) {
      EXPECT_LE(answer.size(), 3u);
      for (const int32_t id : answer) EXPECT_TRUE(id > 1 && id < kIds.size) << id;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, Generation,
                         testing::Values(Case{"decoder_lm_float64", kDecoder, true},
                                         Case{"decoder_lm_float32", kDecoder, false},
                                         Case{"switch_t5_float64", kT5, true},
                                         Case{"switch_t5_float32", kT5, false}),
                         [](const auto& all) { return all.param.name; });

// --- Choosing a token.

Numbers shares(const SamplingOptions& options, const Numbers& logits, int draws = 20'000) {
  const TokenSampler sample(options, {.size = 5, .pad = 0});
  Numbers counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    counts[static_cast<size_t>(sample(logits, i % 100, i / 100))] += 1.0 / draws;
  }
  return counts;
}

void expect_shares(const Numbers& actual, const Numbers& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(actual[i], 0) << i;
    } else {
      EXPECT_NEAR(actual[i], expected[i], 0.015) << i;
    }
  }
}

// Padding (0) and what lies beyond the vocabulary (5) are likeliest, and never chosen.
TEST(TokenSampler, DrawsFromTheLikeliest) {
  const Numbers logits = {9, std::log(4), std::log(1), std::log(3), std::log(2), 9};
  expect_shares(shares({.temperature = 1}, logits), {0, 0.4, 0.1, 0.3, 0.2, 0});
  expect_shares(shares({.temperature = 0.5}, logits),
                {0, 16.0 / 30, 1.0 / 30, 9.0 / 30, 4.0 / 30, 0});
  expect_shares(shares({.temperature = 1, .top_k = 2}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0, 0});
  expect_shares(shares({.temperature = 1, .top_p = 0.75}, logits),
                {0, 4.0 / 9, 0, 3.0 / 9, 2.0 / 9, 0});
  expect_shares(shares({.temperature = 1, .top_p = 0.65}, logits), {0, 4.0 / 7, 0, 3.0 / 7, 0, 0});
  expect_shares(shares({.temperature = 1, .top_p = 1e-6}, logits), {0, 1, 0, 0, 0, 0});
  expect_shares(shares({}, logits, 10), {0, 1, 0, 0, 0, 0});
}

TEST(TokenSampler, TakesTheLowerOfEqualTokens) {
  const Numbers logits = {0, 1, 2, 2, 2};
  EXPECT_EQ(TokenSampler({}, {.size = 5, .pad = 0})(logits, 0, 0), 2);
  expect_shares(shares({.temperature = 1, .top_k = 2}, logits), {0, 0, 0.5, 0.5, 0});
}

TEST(TokenSampler, ADrawIsKeyedBySeedPromptAndPosition) {
  const Numbers logits(64);
  const auto draws = [&](uint64_t seed, int64_t prompt, int64_t first) {
    const TokenSampler sample({.temperature = 1, .seed = seed}, {.size = 64});
    Ids ids;
    for (int64_t i = 0; i < 20; ++i) ids.push_back(sample(logits, prompt, first + i));
    return ids;
  };
  EXPECT_EQ(draws(1, 2, 3), draws(1, 2, 3));
  EXPECT_NE(draws(1, 2, 3), draws(2, 2, 3));
  EXPECT_NE(draws(1, 2, 3), draws(1, 3, 3));
  const Ids from_3 = draws(1, 2, 3), from_4 = draws(1, 2, 4);
  EXPECT_TRUE(std::equal(from_3.begin() + 1, from_3.end(), from_4.begin()));
}

// --- Showing text as it comes.

TEST(TextStream, GivesTheTextOfAllIdsInParts) {
  const Tokenizer tokenizer = Tokenizer::from_bytes(small_tokenizer(), "small");
  Ids ids = tokenizer.encode("ba be <extra_id_3> bi ba");
  ASSERT_GT(ids.size(), 4u);
  for (const size_t before : {size_t{0}, size_t{2}}) {
    TextStream stream(tokenizer, Ids(ids.begin(), ids.begin() + static_cast<int64_t>(before)));
    std::string text = tokenizer.decode({ids.data(), before});
    for (size_t i = before; i < ids.size(); ++i) {
      text += stream.add(ids[i]);
      EXPECT_EQ(text, tokenizer.decode({ids.data(), i + 1}));
    }
    EXPECT_EQ(stream.finish(), "");
    EXPECT_EQ(text, tokenizer.decode(ids));
    EXPECT_NE(text.find("<extra_id_3>"), std::string::npos);
  }
}

}  // namespace
}  // namespace switchyard::test
