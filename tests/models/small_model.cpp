#include "models/small_model.h"

#include "backends/reference/reference_kernels.h"
#include "layers/dense_ffn.h"
#include "moe/top_k_router.h"

namespace switchyard::test {

Arithmetic reference_float64() {
  return {.name = "reference_float64",
          .make_kernels = make_reference_kernels,
          .dtype = DType::kFloat64};
}

std::vector<Arithmetic> arithmetics() {
  std::vector<Arithmetic> all = {reference_float64()};
  for (const BackendUnderTest& backend : backends_under_test()) {
    all.push_back({.name = backend.name + "_float32",
                   .make_kernels = backend.make,
                   .dtype = DType::kFloat32,
                   .usable = backend.usable});
  }
  return all;
}

ModelOptions tiny_options() {
  ModelOptions options;
  options.vocabulary = 23;
  options.d_model = 12;
  options.d_kv = 4;
  options.heads = 2;
  options.d_ff = 9;
  options.encoder_blocks = options.decoder_blocks = 2;
  options.encoder_step = options.decoder_step = 2;
  return options;
}

bool is_sparse(int64_t step, int64_t block) { return step > 0 && (step == 1 || block % step == 1); }

Stack::Options stack_options(const ModelOptions& options, StackKind kind) {
  return {
      .block = {.d_model = options.d_model,
                .d_kv = options.d_kv,
                .heads = options.heads,
                .norm_epsilon = options.norm_epsilon,
                .dropout = options.dropout,
                .stack = kind},
      .position_bias = RelativePositionBias::Options{.buckets = options.buckets,
                                                     .max_distance = options.max_distance,
                                                     .heads = options.heads,
                                                     .bidirectional = kind == StackKind::kEncoder},
      .recompute = options.recompute};
}

static std::unique_ptr<FeedForward> make_moe(const ModelOptions& options, const std::string& name,
                                             uint16_t layer, DType dtype, Memory& memory,
                                             const Groups& groups, uint64_t seed) {
  SwitchRouterOptions router_options;
  router_options.jitter = options.jitter;
  const ExpertRange here =
      experts_of_rank(options.experts, groups.expert->size(), groups.expert->rank());
  auto router = std::make_unique<TopKRouter>(
      TopKRouterOptions(router_options),
      RouterPlace{.name = name + ".router",
                  .layer = layer,
                  .experts = options.experts,
                  .d_model = options.d_model,
                  .initial = Initialisation{options.init_scale}.matrix(options.d_model),
                  .dtype = dtype,
                  .memory = memory,
                  .seed = seed});
  const Experts::Options expert_options{.d_model = options.d_model,
                                        .d_ff = options.d_ff,
                                        .activation = options.activation,
                                        .dropout = options.expert_dropout,
                                        .layer = layer,
                                        .init = {.scale = options.init_scale}};
  auto experts =
      std::make_unique<Experts>(name + ".expert", here, expert_options, dtype, memory, seed);
  return std::make_unique<MoeLayer>(name, layer, std::move(router), std::move(experts),
                                    options.capacity, options.losses);
}

std::vector<std::unique_ptr<FeedForward>> make_feed_forwards(const ModelOptions& options,
                                                             StackKind kind, DType dtype,
                                                             Memory& memory, const Groups& groups,
                                                             uint64_t seed) {
  const bool encodes = kind == StackKind::kEncoder;
  const int64_t blocks = encodes ? options.encoder_blocks : options.decoder_blocks;
  const int64_t step = encodes ? options.encoder_step : options.decoder_step;
  std::vector<std::unique_ptr<FeedForward>> all;
  for (int64_t block = 0; block < blocks; ++block) {
    const std::string name = block_name(kind, block);
    const uint16_t layer = layer_id(kind, block);
    if (is_sparse(step, block)) {
      all.push_back(make_moe(options, name + ".moe", layer, dtype, memory, groups, seed));
    } else {
      const DenseFfn::Options ffn{.d_model = options.d_model,
                                  .d_ff = options.d_ff,
                                  .activation = options.activation,
                                  .dropout = options.dropout,
                                  .layer = layer,
                                  .init = {.scale = options.init_scale}};
      all.push_back(std::make_unique<DenseFfn>(name + ".ffn", ffn, dtype, memory, seed));
    }
  }
  return all;
}

std::unique_ptr<SwitchT5> make_switch_t5(const ModelOptions& options, DType dtype, Memory& memory,
                                         const Groups& groups, uint64_t seed) {
  const SwitchT5::Options model{.vocabulary = options.vocabulary,
                                .tie_embeddings = options.tie_embeddings,
                                .init = {.scale = options.init_scale},
                                .loss = options.output_loss,
                                .encoder = stack_options(options, StackKind::kEncoder),
                                .decoder = stack_options(options, StackKind::kDecoder)};
  const auto ffns = [&](StackKind kind) {
    return make_feed_forwards(options, kind, dtype, memory, groups, seed);
  };
  return std::make_unique<SwitchT5>(model, ffns(StackKind::kEncoder), ffns(StackKind::kDecoder),
                                    dtype, memory, seed);
}

ModelOnRank::ModelOnRank(const Arithmetic& arithmetic, const ModelOptions& options,
                         Collectives& world, int expert_group_size, uint64_t seed)
    : kernels_(arithmetic.make_kernels()),
      groups_(make_groups(world, expert_group_size)),
      workspace_(*kernels_, groups_, seed),
      model_(make_switch_t5(options, arithmetic.dtype, kernels_->memory(), groups_, seed)) {}

Numbers numbers_of(ExecContext& ctx, TensorView x) {
  const auto widened = [](const auto& values) { return Numbers(values.begin(), values.end()); };
  switch (x.dtype()) {
    case DType::kFloat32:
      return widened(read_back_as<float>(ctx, x));
    case DType::kFloat64:
      return widened(read_back_as<double>(ctx, x));
    default:
      return widened(read_back_as<int32_t>(ctx, x));
  }
}

void set_numbers(ExecContext& ctx, Weight& weight, TensorView slice, const Numbers& numbers) {
  if (weight.dtype() == DType::kFloat64) {
    upload(ctx, std::span<const double>(numbers), slice);
  } else {
    const std::vector<float> rounded(numbers.begin(), numbers.end());
    upload(ctx, std::span<const float>(rounded), slice);
  }
  weight.master_changed();
}

TensorView NamedSlice::of(TensorView whole) const {
  if (expert < 0) return whole;
  return whole.rows(expert, expert + 1).reshape({whole.shape()[1], whole.shape()[2]});
}

std::vector<NamedSlice> slices_of(const std::vector<Weight*>& weights) {
  std::vector<NamedSlice> slices;
  for (Weight* weight : weights) {
    if (!weight->is_expert()) slices.push_back({weight->name(), weight});
    for (int64_t e = 0; weight->is_expert() && e < weight->experts().count; ++e) {
      slices.push_back({weight->name_of_expert(e), weight, e});
    }
  }
  return slices;
}

}  // namespace switchyard::test
