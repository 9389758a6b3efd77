#include "trainer/rehearsal.h"

#include "base/reused_memory.h"
#include "models/model.h"
#include "trainer/micro_batch.h"

namespace switchyard {

namespace {

// Rows without padding.
class FullRows : public TokenSource {
 public:
  explicit FullRows(const TokenSource& like) : like_(like) {
    TokenBatch none;
    like.fill({}, none);
    packed_ = none.packed;
  }

  bool causal() const override { return like_.causal(); }
  int inputs_width() const override { return like_.inputs_width(); }
  int targets_width() const override { return like_.targets_width(); }
  const Vocabulary& vocabulary() const override { return like_.vocabulary(); }
  const std::vector<std::string>& label_names() const override { return like_.label_names(); }
  int64_t epoch_size() const override { return like_.epoch_size(); }
  void fill(std::span<const int64_t> indices, TokenBatch& batch) const override {
    const std::vector<int32_t> inputs(static_cast<size_t>(inputs_width()));
    const std::vector<int32_t> targets(static_cast<size_t>(targets_width()));
    batch.reset(inputs_width(), targets_width(), packed_);
    for (size_t row = 0; row < indices.size(); ++row) {
      batch.add_row(vocabulary().filler());
      if (causal()) {
        batch.add_text(inputs, std::ssize(inputs), 0, 0);
      } else {
        batch.add_sample(inputs, targets, 0);
      }
    }
  }

 private:
  const TokenSource& like_;
  bool packed_ = false;
};

enum class Spread : uint8_t { kToFirstRank, kEven };

// int32 [T, K] in ctx.decisions.
TensorView choices_of(LayerContext& ctx, const MoeLayer& layer, int64_t tokens, int64_t choices,
                      Spread spread) {
  const int64_t experts = layer.local_experts().total;
  const int64_t there =
      spread == Spread::kEven
          ? experts
          : std::max<int64_t>(experts_of_rank(experts, ctx.groups.expert->size(), 0).count, 1);
  const int64_t chosen_there = std::min(choices, there);
  ReusedVector<int32_t> expert;
  expert.reserve(static_cast<size_t>(tokens * choices));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < choices; ++k) {
      expert.push_back(static_cast<int32_t>(k < chosen_there ? (t * chosen_there + k) % there : k));
    }
  }
  const TensorView given = ctx.decisions.allocate(DType::kInt32, {tokens, choices});
  upload<int32_t>(ctx, expert, given);
  return given;
}

void give_choices(LayerContext& ctx, Model& model, const ModelBatch& batch, Spread spread) {
  const std::vector<MoeLayer*> layers = model.moe_layers();
  const std::vector<MoeDecisions*> decisions = model.decisions();
  for (size_t i = 0; i < layers.size(); ++i) {
    const MoeLayer& layer = *layers[i];
    const int64_t experts = layer.local_experts().total, choices = layer.choices();
    decisions[i]->given = TensorView();
    if (layer.makes_slots() || choices == experts) continue;
    const TokenRows& rows = layer.stack() == StackKind::kEncoder ? batch.encoder : batch.decoder;
    decisions[i]->given = choices_of(ctx, layer, rows.tokens(), choices, spread);
  }
}

// Losses over the global batch want to know its load; any will do.
void set_some_load(Model& model) {
  for (MoeLayer* layer : model.moe_layers()) {
    const auto experts = static_cast<size_t>(layer->local_experts().total);
    layer->set_global_load({.step = 0, .tokens = 1, .chosen = std::vector<int64_t>(experts, 1)});
  }
}

class Rehearsal {
 public:
  Rehearsal(Workspace& workspace, Model& model, const TokenSource& source,
            const BatchLayout& layout, bool training)
      : workspace_(workspace),
        model_(model),
        training_(training),
        weights_(model.weights()),
        rows_(source),
        batch_(rows_, layout, 0, workspace.context(false, 0).groups.world->rank(), 0) {}

  void run() {
    set_some_load(model_);
    const int ranks = workspace_.context(false, 0).groups.expert->size();
    pass(Spread::kToFirstRank);
    if (ranks > 1) pass(Spread::kEven);
    for (MoeDecisions* decisions : model_.decisions()) decisions->given = TensorView();
    for (Weight* weight : weights_) weight->begin_step();
  }

 private:
  void pass(Spread spread) {
    workspace_.begin_step();
    for (Weight* weight : weights_) weight->begin_step();
    LayerContext ctx = workspace_.context(training_, 0);
    ctx.tracer = nullptr;  // no part of a step
    const ModelBatch on_device = batch_.upload_to(ctx);
    give_choices(ctx, model_, on_device, spread);
    model_.forward(ctx, on_device, 0.0);
    if (training_) model_.backward(ctx, on_device);
    workspace_.release();
  }

  Workspace& workspace_;
  Model& model_;
  bool training_;
  std::vector<Weight*> weights_;
  FullRows rows_;
  MicroBatch batch_;
};

// Of each arena the largest of all ranks.
Workspace::Sizes largest_of_ranks(Collectives& world, Workspace::Sizes sizes) {
  InlineStream stream;
  int64_t numbers[] = {sizes.scratch, sizes.saved, sizes.decisions};
  world.all_reduce(stream, {numbers, DType::kInt64, {3}}, ReduceOp::kMax)->wait();
  return {.scratch = numbers[0], .saved = numbers[1], .decisions = numbers[2]};
}

}  // namespace

void rehearse(Workspace& workspace, Model& model, const TokenSource& source,
              const BatchLayout& layout, bool training) {
  Rehearsal rehearsal(workspace, model, source, layout, training);
  // The first time arenas grow, and leave gaps between their blocks; the second time they are one
  // block each, and what they need is exact.
  rehearsal.run();
  workspace.resize(workspace.capacities());
  rehearsal.run();
  workspace.resize(
      largest_of_ranks(*workspace.context(false, 0).groups.world, workspace.high_waters()));
}

}  // namespace switchyard
