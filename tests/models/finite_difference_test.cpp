// The gradient of the whole model, everything random and every loss on, by finite differences.
#include <gtest/gtest.h>

#include <cmath>

#include "models/random_source.h"
#include "models/small_model.h"
#include "support/finite_differences.h"
#include "trainer/micro_batch.h"

namespace switchyard::test {
namespace {

constexpr int64_t kEntriesOfEachTensor = 7;

ModelOptions options_under_test() {
  ModelOptions options;
  options.vocabulary = 23;
  options.d_model = 10;
  options.d_kv = 3;
  options.heads = 2;
  options.d_ff = 7;
  options.encoder_blocks = options.decoder_blocks = 2;
  options.encoder_step = options.decoder_step = 2;
  options.experts = 3;
  options.buckets = 8;
  options.max_distance = 6;
  options.activation = Activation::kSilu;  // smooth: a step must not cross ReLU's kink
  options.dropout = options.expert_dropout = 0.2;
  options.jitter = 0.1;
  options.capacity = {.train_factor = 1.0, .min_tokens = 1};
  options.losses = {.load_balance = 0.3, .router_z = 0.05};
  options.output_loss.output_z = 0.02;
  return options;
}

// The training loss of one global batch as a function of the weights.
class Objective {
 public:
  explicit Objective(const ModelOptions& options)
      : model_(reference_float64(), options, /*seed=*/5) {
    for (int64_t micro = 0; micro < layout_.micro_batches; ++micro) {
      batches_.emplace_back(source_, layout_, micro, 0, 0);
      targets_ += static_cast<double>(batches_.back().target_tokens());
    }
  }

  SwitchT5& model() { return model_->model(); }
  LayerContext context() { return model_->context(true, 5); }
  // Cross-entropy per target and all auxiliary losses; gradients too where asked for.
  double value(bool with_gradients) {
    double sum = 0;
    for (Weight* weight : model().weights()) weight->begin_step();
    for (MoeLayer* layer : model().moe_layers()) layer->observation().clear();
    for (const MicroBatch& batch : batches_) {
      LayerContext ctx = context();
      const ModelBatch on_device = batch.upload_to(ctx);
      for (double loss : numbers_of(ctx, model().forward(ctx, on_device, 1.0 / targets_))) {
        sum += loss / targets_;
      }
      for (double loss : numbers_of(ctx, model().output_z())) sum += loss / targets_;
      note_margins(ctx);
      if (with_gradients) model().backward(ctx, on_device);
      model().observe(ctx, on_device);
      model_->release();
    }
    for (MoeLayer* layer : model().moe_layers()) {
      sum += layer->observation().load_balance + layer->observation().router_z;
    }
    return sum;
  }
  // The least distance of a token's best two probabilities in the last call.
  double margin() const { return margin_; }
  double dropped() {
    double sum = 0;
    for (MoeLayer* layer : model().moe_layers()) {
      sum += layer->observation().dropped_by_choice[0];
    }
    return sum;
  }

 private:
  void note_margins(LayerContext& ctx) {
    for (const auto& mixtures : {model().encoder_mixtures(), model().decoder_mixtures()}) {
      for (const MoeLayer::Saved* saved : mixtures) {
        if (saved) note_margin(ctx, *saved);
      }
    }
  }
  void note_margin(LayerContext& ctx, const MoeLayer::Saved& saved) {
    const Numbers probs = numbers_of(ctx, saved.routing->probs);
    const auto experts = static_cast<size_t>(saved.routing->probs.shape()[1]);
    for (size_t t = 0; t < probs.size(); t += experts) {
      std::vector<double> row(probs.begin() + t, probs.begin() + t + experts);
      std::ranges::sort(row, std::greater<>());
      margin_ = std::min(margin_, row[0] - row[1]);
    }
  }

  const BatchLayout layout_{.sequences = 8, .group_sequences = 2, .micro_batches = 2};
  const RandomSource source_{6, 5, 23};
  std::vector<MicroBatch> batches_;
  double targets_ = 0, margin_ = 1;
  SingleModel model_;
};

// Some of a tensor's elements, spread over all of it.
Differentiated sample(const NamedSlice& slice) {
  Differentiated all = differentiated(slice.name, slice.master(), slice.gradient());
  const int64_t stride = std::max<int64_t>(1, all.elements / kEntriesOfEachTensor);
  all.elements = (all.elements + stride - 1) / stride;
  all.value = [stride, value = all.value](int64_t i) { return value(i * stride); };
  all.written = [stride, written = all.written](int64_t i) { return written(i * stride); };
  all.changed = [weight = slice.weight] { weight->master_changed(); };
  return all;
}

TEST(FiniteDifferences, WholeModel) {
  Objective objective(options_under_test());
  objective.value(true);
  ASSERT_GT(objective.margin(), 1e-3) << "choose another seed: a step could change a decision";
  ASSERT_GT(objective.dropped(), 0);

  std::vector<Differentiated> tensors;
  for (const NamedSlice& slice : slices_of(objective.model().weights())) {
    LayerContext ctx = objective.context();
    double largest = 0;
    for (double value : numbers_of(ctx, slice.gradient())) {
      largest = std::max(largest, std::abs(value));
    }
    EXPECT_GT(largest, 1e-4) << slice.name << ": hardly anything reaches it";
    tensors.push_back(sample(slice));
  }
  expect_gradients(tensors, [&] { return objective.value(false); });
}

}  // namespace
}  // namespace switchyard::test
