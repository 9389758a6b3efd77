// Choices by label in an evaluation: against a count on the host, and on many layouts.
#include <gtest/gtest.h>

#include <algorithm>

#include "collectives/threaded.h"
#include "models/random_source.h"
#include "models/small_model.h"
#include "trainer/evaluator.h"

namespace switchyard::test {
namespace {

constexpr int kLabels = 3;
constexpr int64_t kSequences = 20;  // two batches and a smaller one

// Random sequences with labels in an uneven mixture.
class LabelledSource : public RandomSource {
 public:
  LabelledSource() : RandomSource(6, 5, 23) {}
  const std::vector<std::string>& label_names() const override { return names_; }
  int64_t epoch_size() const override { return kSequences; }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    RandomSource::fill(indices, batch);
    for (size_t i = 0; i < indices.size(); ++i) batch.labels[i] = label_of(indices[i]);
  }
  static int32_t label_of(int64_t index) { return index % 5 == 0 ? 2 : index % 3 == 0 ? 1 : 0; }

 private:
  std::vector<std::string> names_ = {"a", "b", "c"};
};

ModelOptions options_under_test() {
  ModelOptions options = tiny_options();
  options.experts = 5;
  options.capacity = {.eval_factor = 0.6, .min_tokens = 1};  // many choices are dropped
  return options;
}

constexpr BatchLayout kLayout{.sequences = 8, .group_sequences = 2};
EvaluationRecord evaluate(ModelOnRank& rank, int ranks) {
  const LabelledSource source;
  BatchLayout layout = kLayout;
  layout.ranks = ranks;
  Evaluator evaluator(rank.kernels(), rank.groups(), rank.model(), source,
                      {.layout = layout, .sequences = kSequences});
  evaluator.run(0);  // counts must not add up from one evaluation to the next
  return evaluator.run(0);
}

using Counts = std::vector<std::vector<int64_t>>;

// Each token's expert is the largest logit; capacity doesn't matter.
void count_by_hand(LayerContext& ctx, const MoeLayer::Saved& saved, const std::vector<int32_t>& ids,
                   int width, int64_t first, Counts& counts) {
  const Numbers logits = numbers_of(ctx, saved.routing->logits);
  const size_t experts = logits.size() / ids.size();
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] == 0) continue;
    const auto begin = logits.begin() + static_cast<ptrdiff_t>(t * experts);
    const auto expert = std::max_element(begin, begin + static_cast<ptrdiff_t>(experts)) - begin;
    const int32_t label = LabelledSource::label_of(first + static_cast<int64_t>(t) / width);
    ++counts[static_cast<size_t>(label)][static_cast<size_t>(expert)];
  }
}

// Of the encoder's and the decoder's one mixture.
std::vector<Counts> counts_by_hand(ModelOnRank& rank) {
  const LabelledSource source;
  std::vector<Counts> counts(2, Counts(kLabels, std::vector<int64_t>(5)));
  for (int64_t first = 0; first < kSequences; first += kLayout.sequences) {
    BatchLayout layout = kLayout;
    layout.sequences = std::min(layout.sequences, kSequences - first);
    const MicroBatch batch(source, layout, 0, 0, first);
    LayerContext ctx = rank.context(false);
    const ModelBatch on_device = batch.upload_to(ctx);
    rank.model().forward(ctx, on_device, 0.0);
    const TokenBatch& samples = batch.samples();
    // Decoder positions are real where their target is.
    count_by_hand(ctx, *rank.model().encoder_mixtures()[1], samples.inputs, samples.inputs_width,
                  first, counts[0]);
    count_by_hand(ctx, *rank.model().decoder_mixtures()[1], samples.targets, samples.targets_width,
                  first, counts[1]);
    rank.release();
  }
  return counts;
}

TEST(LabelCounts, EqualACountOnTheHost) {
  SingleModel model(reference_float64(), options_under_test(), 1);
  const EvaluationRecord record = evaluate(*model.operator->(), 1);
  const std::vector<Counts> expected = counts_by_hand(*model.operator->());
  ASSERT_GT(record.dropped_share, 0);
  ASSERT_EQ(record.layers.size(), 2u);
  for (size_t l = 0; l < 2; ++l) {
    EXPECT_EQ(record.layers[l].load_by_label, expected[l]) << record.layers[l].name;
    std::vector<int64_t> load(5);
    for (const auto& row : record.layers[l].load_by_label) {
      for (size_t e = 0; e < load.size(); ++e) load[e] += row[e];
    }
    EXPECT_EQ(record.layers[l].load, load);
  }
}

TEST(LabelCounts, AreTheSameOnEveryLayout) {
  SingleModel model(reference_float64(), options_under_test(), 1);
  const EvaluationRecord expected = evaluate(*model.operator->(), 1);
  for (const auto& [ranks, expert_group] :
       std::vector<std::pair<int, int>>{{2, 2}, {2, 1}, {3, 3}, {4, 2}, {8, 8}}) {
    run_threaded_ranks(ranks, [&, ranks = ranks, group = expert_group](Collectives& world) {
      ModelOnRank rank(reference_float64(), options_under_test(), world, group, 1);
      const EvaluationRecord record = evaluate(rank, ranks);
      for (size_t l = 0; l < 2; ++l) {
        EXPECT_EQ(record.layers[l].load_by_label, expected.layers[l].load_by_label)
            << ranks << "x" << group << " " << record.layers[l].name;
      }
    });
  }
}

}  // namespace
}  // namespace switchyard::test
