#include "optim/adafactor.h"

#include <algorithm>
#include <cmath>

#include "config/fields.h"
#include "ops/host_values.h"

namespace switchyard {

void AdafactorOptions::describe(Fields& f) {
  f.real("decay_exponent", decay_exponent, {0.01, 10.0}, "",
         "Step t keeps 1 - (t + 1)^-exponent of the second moments, t counted from 0.");
  f.integer("step_offset", step_offset, {0, 1 << 30}, "steps",
            "Taken off t: moments start anew at that step, for fine-tuning in the same run.");
  f.real_or("none", "clip_threshold", clip_threshold, {1e-6, 1e6}, "",
            "Largest RMS of an update before it is scaled; larger ones are scaled down to it.");
  f.real("epsilon1", epsilon1, {1e-32, 1.0}, "", "Added to each squared gradient.");
  f.real("epsilon2", epsilon2, {0.0, 1e3}, "",
         "Least RMS that a weight is taken to have where updates are scaled by it.");
  f.integer("min_size_to_factor", min_size_to_factor, {1, 1 << 30}, "",
            "Matrices whose shorter side is below it keep every second moment.");
  f.boolean("multiply_by_parameter_scale", multiply_by_parameter_scale,
            "Whether updates are relative to the RMS of the weight.");
  f.one_of("stacked_experts", stacked_experts,
           {{StackedExperts::kLayer, "layer"}, {StackedExperts::kExpert, "expert"}},
           "What RMS is taken over: all experts of a layer together, as in Mesh-TensorFlow, or "
           "each expert by itself.");
  f.inert_if(!multiply_by_parameter_scale, {"epsilon2"}, "'multiply_by_parameter_scale' is false");
  f.inert_if(!multiply_by_parameter_scale && !clip_threshold, {"stacked_experts"},
             "there is neither clipping nor scaling");
  describe_groups(f);
}

Adafactor::Adafactor(const AdafactorOptions& options, std::span<Weight* const> weights,
                     const Groups& groups)
    : options_(options), groups_(groups) {
  for (Weight* weight : weights) {
    const Shape& whole = weight->shape();
    const bool expert = weight->is_expert();
    SWITCHYARD_CHECK(expert || whole.rank() <= 2, weight->name(), " ", whole);
    const int64_t count = expert ? whole[0] : 1;
    Slot slot{weight, rule_for(options, weight->role()), {}, {}, {}};
    if (whole.rank() >= 2 && std::min(whole[-2], whole[-1]) >= options.min_size_to_factor) {
      slot.shape = {count, whole[-2], whole[-1]};
      slot.rows = zero_state(*weight, {count, whole[-2]});
      slot.columns = zero_state(*weight, {count, whole[-1]});
    } else {
      slot.shape = {count, expert ? whole[1] * whole[2] : whole.elements()};
      slot.rows = zero_state(*weight, slot.shape);
    }
    tensors_ += count;
    slots_.push_back(std::move(slot));
  }
}

AdafactorMoments Adafactor::Slot::moments() const {
  return {rows, shape.rank() == 3 ? columns.view() : TensorView()};
}

void Adafactor::step(ExecContext& ctx, const UpdateStep& update) {
  const ScratchScope scope(ctx.scratch);
  const TensorView sums = ctx.scratch.allocate(DType::kFloat64, {tensors_, 2});
  update_moments(ctx, update, sums);
  const auto local = host_values<double>(ctx, sums);
  const bool by_layer = options_.stacked_experts == AdafactorOptions::StackedExperts::kLayer;
  const ReusedVector<Squares> layers = by_layer ? sum_layers(ctx, local) : ReusedVector<Squares>();

  ReusedVector<double> sizes;
  sizes.reserve(static_cast<size_t>(tensors_));
  auto layer = layers.begin();
  for (const Slot& slot : slots_) {
    const double rate = update.learning_rate * slot.rule.learning_rate_scale;
    const bool pooled = by_layer && slot.weight->is_expert();
    int64_t elements = 1;
    for (int i = 1; i < slot.shape.rank(); ++i) elements *= slot.shape[i];
    for (int64_t n = 0; n < slot.count(); ++n) {
      const size_t at = 2 * sizes.size();
      sizes.push_back(pooled ? step_size(rate, *layer, elements * slot.weight->experts().total)
                             : step_size(rate, {local[at], local[at + 1]}, elements));
    }
    if (pooled) ++layer;
  }

  const TensorView step_sizes = ctx.scratch.allocate(DType::kFloat64, {tensors_});
  upload<double>(ctx, sizes, step_sizes);
  int64_t first = 0;
  for (Slot& slot : slots_) {
    const double decay =
        update.learning_rate * slot.rule.learning_rate_scale * slot.rule.weight_decay;
    adafactor_update(ctx, update.gradient_scale, decay,
                     step_sizes.rows(first, first + slot.count()),
                     slot.weight->master().reshape(slot.shape),
                     slot.weight->gradient().reshape(slot.shape), slot.moments());
    slot.weight->master_changed();
    first += slot.count();
  }
}

void Adafactor::update_moments(ExecContext& ctx, const UpdateStep& update, TensorView sums) {
  const int64_t number = std::max<int64_t>(0, update.number - options_.step_offset);
  const AdafactorStep step{
      .decay = 1 - std::pow(static_cast<double>(number + 1), -options_.decay_exponent),
      .epsilon = options_.epsilon1,
      .gradient_scale = update.gradient_scale};
  int64_t first = 0;
  for (Slot& slot : slots_) {
    adafactor_moments(ctx, step, slot.weight->master().reshape(slot.shape),
                      slot.weight->gradient().reshape(slot.shape), slot.moments(),
                      sums.rows(first, first + slot.count()));
    first += slot.count();
  }
}

ReusedVector<Adafactor::Squares> Adafactor::sum_layers(ExecContext& ctx,
                                                       std::span<const double> local) const {
  // By slot and expert, of this rank and then of all ranks.
  ReusedVector<double> mine;
  ReusedVector<int64_t> totals;
  size_t at = 0;
  for (const Slot& slot : slots_) {
    const auto size = static_cast<size_t>(2 * slot.count());
    if (slot.weight->is_expert()) {
      mine.insert(mine.end(), local.begin() + static_cast<int64_t>(at),
                  local.begin() + static_cast<int64_t>(at + size));
      totals.push_back(slot.weight->experts().total);
    }
    at += size;
  }
  ReusedVector<Squares> layers(totals.size());
  if (layers.empty()) return layers;

  Collectives& group = *groups_.expert;
  ReusedVector<int64_t> rows;  // experts of a rank, all slots together
  int64_t all_rows = 0;
  for (int rank = 0; rank < group.size(); ++rank) {
    rows.push_back(0);
    for (const int64_t total : totals) {
      rows.back() += experts_of_rank(total, group.size(), rank).count;
    }
    all_rows += rows.back();
  }
  const TensorView part =
      ctx.scratch.allocate(DType::kFloat64, {rows[static_cast<size_t>(group.rank())], 2});
  const TensorView gathered = ctx.scratch.allocate(DType::kFloat64, {all_rows, 2});
  upload<double>(ctx, mine, part);
  group.all_gather(ctx.stream, part, rows, gathered)->wait();

  // In the order of the experts, so that no layout changes a bit.
  size_t next = 0;
  const auto all = host_values<double>(ctx, gathered);
  for (int rank = 0; rank < group.size(); ++rank) {
    for (size_t i = 0; i < totals.size(); ++i) {
      const int64_t count = experts_of_rank(totals[i], group.size(), rank).count;
      for (int64_t expert = 0; expert < count; ++expert, next += 2) {
        layers[i].direction += all[next];
        layers[i].weight += all[next + 1];
      }
    }
  }
  return layers;
}

double Adafactor::step_size(double learning_rate, const Squares& squares, int64_t elements) const {
  const auto rms = [&](double sum) { return std::sqrt(sum / static_cast<double>(elements)); };
  double size = learning_rate;
  if (options_.clip_threshold) {
    size /= std::max(1.0, rms(squares.direction) / *options_.clip_threshold);
  }
  if (options_.multiply_by_parameter_scale) {
    size *= std::max(rms(squares.weight), options_.epsilon2);
  }
  return size;
}

std::vector<OptimizerState> Adafactor::states() {
  std::vector<OptimizerState> states;
  for (Slot& slot : slots_) {
    const Weight& weight = *slot.weight;
    // One entry an expert; a dense weight's without the leading 1.
    const auto add = [&](const char* name, TensorView value, const Shape& of_dense) {
      states.push_back({name, &weight, weight.is_expert() ? value : value.reshape(of_dense)});
    };
    if (slot.shape.rank() == 3) {
      add("adafactor.rows", slot.rows, {slot.shape[1]});
      add("adafactor.columns", slot.columns, {slot.shape[2]});
    } else if (weight.is_expert()) {
      add("adafactor.squares", slot.rows.view().reshape(weight.shape()), {});
    } else {
      add("adafactor.squares", slot.rows, weight.shape());
    }
  }
  return states;
}

}  // namespace switchyard
