// EmbeddingLayer and LmHead, alone and sharing one table.
#include <gtest/gtest.h>

#include <optional>

#include "layers/embedding_layer.h"
#include "layers/layer_case.h"
#include "layers/lm_head.h"
#include "support/finite_differences.h"

namespace switchyard::test {
namespace {

constexpr int64_t kVocabulary = 7, kModel = 4;
constexpr double kGradientScale = 0.125;
// Repeated ids, and two that never occur.
const GlobalBatch kBatch{.sequences = 2, .length = 4, .ids = {3, 1, 3, 0, 6, 3, 1, 0}};
const std::vector<int32_t> kTargets = {2, kIgnoredTarget, 0, 6, kIgnoredTarget, 5, 5, 1};

// kGradientScale times the sum over targets that aren't ignored of cross-entropy, smoothed, and
// z-loss, by plain loops.
double loss_by_hand(const Numbers& logits, const LossOptions& options = {}) {
  double sum = 0;
  for (size_t t = 0; t < kTargets.size(); ++t) {
    if (kTargets[t] == kIgnoredTarget) continue;
    double total = 0;
    for (size_t v = 0; v < kVocabulary; ++v) total += std::exp(logits[t * kVocabulary + v]);
    const double log_z = std::log(total), spread = options.label_smoothing / kVocabulary;
    for (size_t v = 0; v < kVocabulary; ++v) sum += spread * (log_z - logits[t * kVocabulary + v]);
    const double at_target = logits[t * kVocabulary + static_cast<size_t>(kTargets[t])];
    sum += (1 - options.label_smoothing) * (log_z - at_target) + options.output_z * log_z * log_z;
  }
  return kGradientScale * sum;
}

class HeadCheck : public LayerCase {
 public:
  explicit HeadCheck(bool tied, const LossOptions& options = {})
      : options_(options),
        rows_(kBatch, memory()),
        embedding_("table", kVocabulary, kModel, {}, DType::kFloat64, memory(), 1),
        targets_(DType::kInt32, {rows_.tokens()}) {
    if (tied) {
      head_.emplace(embedding_.table(), LmHead::t5_scale(embedding_.table()), options);
    } else {
      head_.emplace("lm_head", kVocabulary, kModel, Initialisation(), DType::kFloat64, memory(), 1,
                    options);
    }
    set_normal_weights(ctx(), embedding_.weights(), 1);
    set_normal_weights(ctx(), head_->weights(), 1);
    upload<int32_t>(ctx(), kTargets, targets_);
    ctx().training = true;
  }

  double objective() {
    release();
    h_ = embedding_.forward(ctx(), rows_.rows(), DType::kFloat64);
    return loss_by_hand(numbers_of(ctx(), head_->logits(ctx(), h_)), options_);
  }
  // Sum of kGradientScale * losses as the layer computes them.
  double loss() {
    release();
    embedding_.table().begin_step();
    for (Weight* weight : head_->weights()) weight->begin_step();
    h_ = embedding_.forward(ctx(), rows_.rows(), DType::kFloat64);
    const Numbers losses = numbers_of(
        ctx(),
        head_->loss(ctx(), h_, targets_, rows_.rows().group_offsets, kGradientScale, saved_));
    for (size_t t = 0; t < losses.size(); ++t) {
      if (kTargets[t] == kIgnoredTarget) {
        EXPECT_EQ(losses[t], 0.0) << "token " << t;
      }
    }
    return kGradientScale * std::accumulate(losses.begin(), losses.end(), 0.0);
  }
  void backward() { embedding_.backward(ctx(), rows_.rows(), saved_.dh); }

  LmHead& head() { return *head_; }
  const LmHead::Saved& saved() const { return saved_; }
  Weight& table() { return embedding_.table(); }

 private:
  LossOptions options_;
  BatchRows rows_;
  EmbeddingLayer embedding_;
  std::optional<LmHead> head_;
  Tensor targets_;
  TensorView h_;
  LmHead::Saved saved_;
};

TEST(LmHead, TiedGradientsMatchFiniteDifferencesInOneSink) {
  HeadCheck check(true);
  EXPECT_TRUE(check.head().weights().empty());  // the table is listed by its owner
  check.loss();
  check.backward();
  expect_gradients({differentiated(check.table())}, [&] { return check.objective(); });
}

TEST(LmHead, UntiedGradientsMatchFiniteDifferences) {
  HeadCheck check(false);
  ASSERT_EQ(check.head().weights().size(), 1u);
  check.loss();
  check.backward();
  expect_gradients({differentiated(check.table()), differentiated(*check.head().weights().front())},
                   [&] { return check.objective(); });
}

TEST(LmHead, GradientsHaveSmoothingAndZLossesAndTheLossHasNeither) {
  const LossOptions options{.label_smoothing = 0.2, .output_z = 0.05};
  for (const bool tied : {false, true}) {
    HeadCheck plain(tied), check(tied, options);
    EXPECT_EQ(check.loss(), plain.loss());
    check.backward();
    expect_gradients({differentiated(check.table())}, [&] { return check.objective(); });
    EXPECT_TRUE(plain.saved().output_z.absent());

    HeadCheck only_z(tied, {.output_z = options.output_z});
    const double z = only_z.objective() - plain.objective();
    check.loss();
    const Numbers z_losses = numbers_of(check.ctx(), check.saved().output_z);
    EXPECT_NEAR(kGradientScale * std::accumulate(z_losses.begin(), z_losses.end(), 0.0), z, 1e-12);

    check.ctx().training = false;  // evaluation: the same loss, and no more
    EXPECT_EQ(check.loss(), plain.loss());
    EXPECT_TRUE(check.saved().output_z.absent());
  }
}

TEST(LmHead, LossIsTheCrossEntropyOfTargetsThatCount) {
  for (const bool tied : {false, true}) {
    HeadCheck check(tied);
    const double by_hand = check.objective();
    EXPECT_NEAR(check.loss(), by_hand, 1e-13);
    check.ctx().training = false;  // has no gradient, and the same loss
    EXPECT_NEAR(check.loss(), by_hand, 1e-13);
    EXPECT_TRUE(check.saved().dh.absent());
    EXPECT_FALSE((tied ? check.table() : *check.head().weights().front()).gradient_written());
  }
}

TEST(LmHead, IgnoredTargetsHaveNoGradient) {
  HeadCheck check(false);
  check.loss();
  for (size_t i = 0; i < kTargets.size() * kModel; ++i) {
    EXPECT_EQ(check.saved().dh.data<double>()[i] == 0.0, kTargets[i / kModel] == kIgnoredTarget)
        << i;
  }
}

// Parity 8.5: tied logits are D^-1/2 times those of an untied head with the same weights.
TEST(LmHead, ScalesOnlyWhenTied) {
  LayerCase layer;
  EmbeddingLayer embedding("table", kVocabulary, kModel, {}, DType::kFloat64, layer.memory(), 1);
  LmHead tied(embedding.table(), LmHead::t5_scale(embedding.table()));
  LmHead untied("lm_head", kVocabulary, kModel, {}, DType::kFloat64, layer.memory(), 1);
  set_numbers(layer.ctx(), numbers_of(layer.ctx(), embedding.table().master()),
              untied.weights().front()->master());
  const Tensor h = layer.normal_tensor("h", {3, kModel});
  const Numbers with_scale = numbers_of(layer.ctx(), tied.logits(layer.ctx(), h));
  const Numbers without = numbers_of(layer.ctx(), untied.logits(layer.ctx(), h));
  for (size_t i = 0; i < without.size(); ++i) {
    EXPECT_NEAR(with_scale[i], without[i] / std::sqrt(4.0), 1e-14);
  }
}

TEST(EmbeddingLayer, CopiesRowsUnscaled) {
  LayerCase layer;
  EmbeddingLayer embedding("table", kVocabulary, kModel, {}, DType::kFloat64, layer.memory(), 1);
  const BatchRows rows(kBatch, layer.memory());
  const TensorView y = embedding.forward(layer.ctx(), rows.rows(), DType::kFloat64);
  const double* table = embedding.table().master().data<double>();
  for (size_t t = 0; t < kBatch.ids.size(); ++t) {
    for (size_t d = 0; d < kModel; ++d) {
      EXPECT_EQ(y.data<double>()[t * kModel + d],
                table[static_cast<size_t>(kBatch.ids[t]) * kModel + d]);
    }
  }
}

}  // namespace
}  // namespace switchyard::test
