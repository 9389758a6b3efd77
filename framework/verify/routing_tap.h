// Stands between the training step and the model: writes down which experts every token chose and
// got, and lets a layout take the reference's choice where its own differs at a near tie. There it
// routes again, from the first such layer's choices on with everything decided anew.
#pragma once

#include "trainer/batch_layout.h"
#include "verify/run_hooks.h"
#include "verify/snapshot.h"

namespace switchyard {

// Where the score of another expert differs by less, rounding may turn the choice. A flip at a
// larger difference is left as it is: a failure.
inline constexpr double kNearTie = 1e-5;

class RoutingTap : public Model {
 public:
  // Both outlive it.
  RoutingTap(RunParts& parts, RunHooks& hooks);

  // Starts a step.
  //   reference  a whole snapshot whose choices settle near ties; null: there are none to settle
  void begin_step(int64_t step, const Snapshot* reference);
  // Choices and kept choices of every mixture since begin_step.
  Snapshot take_choices();
  // Choices of all ranks that were taken from the reference since the beginning.
  int64_t near_ties() const { return near_ties_; }

  TensorView forward(LayerContext& ctx, const ModelBatch& batch, double gradient_scale) override;
  TensorView output_z() const override { return model_.output_z(); }
  void backward(LayerContext& ctx, const ModelBatch& batch) override;
  void route(LayerContext& ctx, const ModelBatch& batch) override;
  TensorView logits(LayerContext& ctx, const ModelBatch& batch) override {
    return model_.logits(ctx, batch);
  }
  std::vector<MoeLayer*> moe_layers() override { return model_.moe_layers(); }
  void observe(LayerContext& ctx, const ModelBatch& batch) override { model_.observe(ctx, batch); }
  std::vector<MoeDecisions*> decisions() override { return model_.decisions(); }
  Stack::Cache start(LayerContext& ctx, const TokenRows& encoder, int64_t sequences,
                     int64_t capacity) override {
    return model_.start(ctx, encoder, sequences, capacity);
  }
  TensorView step(LayerContext& ctx, const TokenRows& tokens, Stack::Cache& cache) override {
    return model_.step(ctx, tokens, cache);
  }
  void collect_weights(std::vector<Weight*>& weights) override { model_.collect_weights(weights); }

 private:
  struct Flips {
    int64_t count = 0;
    double widest = 0;  // largest difference between the two experts' scores
  };

  // Gives layers the reference's choices until no near tie is left.
  void settle(LayerContext& ctx, const ModelBatch& batch);
  const TokenRows& rows_of(size_t layer, const ModelBatch& batch) const;
  // First element of this rank's choices in the layer's whole item.
  int64_t first_choice(LayerContext& ctx, size_t layer, const ModelBatch& batch) const;
  Flips flips_of(LayerContext& ctx, size_t layer, const ModelBatch& batch) const;
  // The first layer from `layer` on whose choices differ on some rank, at near ties only; none
  // where no choice differs, or one does beyond that.
  std::optional<size_t> next_near_tie(LayerContext& ctx, const ModelBatch& batch, size_t layer);
  void give_choices(LayerContext& ctx, const ModelBatch& batch, size_t layers);
  // Takes given choices back and writes down what was decided.
  void record(LayerContext& ctx, const ModelBatch& batch);
  const Item& reference_choices(size_t layer) const { return (*reference_)[2 * layer]; }

  RunParts& parts_;
  RunHooks& hooks_;
  Model& model_;
  std::vector<MoeLayer*> layers_;
  int64_t step_ = 0;
  const Snapshot* reference_ = nullptr;  // choices and kept choices of each layer come first
  Snapshot choices_;
  int64_t near_ties_ = 0;
};

}  // namespace switchyard
