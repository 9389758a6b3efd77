#include "moe/moe_case.h"

#include "layers/dense_ffn.h"

#include <cmath>
#include <numeric>

namespace switchyard::test {

Exchange::Options Travel::options() const {
  Exchange::Options options{
      .dispatch = make_all_to_all_dispatch(),
      .schedule = {.max_rows_per_round = max_rows_per_round, .chunks = chunks},
      .wire_bfloat16 = wire_bfloat16};
  if (kind == Kind::kAllGather) options.dispatch = make_all_gather_dispatch();
  if (kind == Kind::kHierarchical) options.dispatch = make_hierarchical_dispatch();
  return options;
}

int Travel::ranks_per_node(int expert_group_size) const {
  if (kind != Kind::kHierarchical) return 0;
  return expert_group_size % 2 == 0 ? 2 : 1;
}

RouterPlace router_place(const std::string& name, uint16_t layer, int64_t experts, int64_t d_model,
                         DType dtype, Memory& memory) {
  return {.name = name,
          .layer = layer,
          .experts = experts,
          .d_model = d_model,
          .initial = Initial::normal(1),
          .dtype = dtype,
          .memory = memory,
          .seed = 1,
          .vocabulary = 50,
          .slots = 2};
}

static std::unique_ptr<DensePath> make_dense_path(const MoeCase& moe_case, RouterPlace place) {
  using Besides = MoeCase::Besides;
  if (moe_case.besides == Besides::kNothing) return nullptr;
  const DenseFfn::Options options{.d_model = moe_case.d_model,
                                  .d_ff = moe_case.d_ff,
                                  .activation = moe_case.activation,
                                  .dropout = moe_case.expert_dropout,
                                  .layer = place.layer};
  auto dense =
      std::make_unique<DenseFfn>("moe.shared", options, place.dtype, place.memory, place.seed);
  place.name = "moe.mix";
  const bool mixes = moe_case.besides == Besides::kResidual;
  return std::make_unique<DensePath>(std::move(dense), mixes ? std::optional(place) : std::nullopt);
}

std::unique_ptr<MoeLayer> make_moe_layer(const MoeCase& moe_case, LayerRank& rank) {
  const Collectives& group = *rank.groups().expert;
  const uint16_t number = layer_id(StackKind::kEncoder, 1);
  SwitchRouterOptions options;
  options.jitter = moe_case.jitter;
  const RouterPlace place = router_place("moe.router", number, moe_case.experts, moe_case.d_model,
                                         moe_case.dtype, rank.memory());
  auto router = moe_case.router ? moe_case.router(place)
                                : std::make_unique<TopKRouter>(TopKRouterOptions(options), place);
  auto experts = std::make_unique<Experts>(
      "moe.expert", experts_of_rank(moe_case.experts, group.size(), group.rank()),
      Experts::Options{.d_model = moe_case.d_model,
                       .d_ff = moe_case.d_ff,
                       .activation = moe_case.activation,
                       .gated = moe_case.gated,
                       .dropout = moe_case.expert_dropout,
                       .layer = number,
                       .slice = rank.groups().tensor->rank(),
                       .slices = rank.groups().tensor->size()},
      moe_case.dtype, rank.memory(), 1);
  auto layer = std::make_unique<MoeLayer>(
      "moe", number, std::move(router), std::move(experts), moe_case.capacity, moe_case.losses,
      moe_case.travel.options(), make_dense_path(moe_case, place));
  set_normal_weights(rank.ctx(), layer->weights(), 0.7);
  return layer;
}

MoeRank::MoeRank(const MoeCase& moe_case, std::unique_ptr<Kernels> kernels, Collectives& world,
                 int expert_group_size, int expert_tensor)
    : case_(moe_case),
      rank_(std::move(kernels), world, expert_group_size,
            moe_case.travel.ranks_per_node(expert_group_size / expert_tensor), expert_tensor),
      world_(world),
      rows_(moe_case.batch, share_of(moe_case.batch.groups(), world.size(), world.rank()),
            rank_.memory()),
      layer_(make_moe_layer(moe_case, rank_)),
      saved_(layer_->make_saved()) {
  const Shape shape{moe_case.batch.tokens(), moe_case.d_model};
  x_ = rows_of(moe_case.x.empty() ? normal_numbers("x", shape) : moe_case.x);
  dy_ = rows_of(normal_numbers("dy", shape));
  dx_ = rows_of(normal_numbers("dx", shape));  // backward must overwrite it
  ctx().training = moe_case.training;
  if (!moe_case.ordered) return;
  refused_ = Tensor(DType::kInt64, {1}, rank_.memory());
  fill_zero(ctx(), refused_);
  ordered_ = {
      .leaves = moe_case.batch.groups(), .leaf_rows = rows().group_tokens, .refused = refused_};
  ctx().ordered = &ordered_;
  for (Weight* weight : layer_->weights()) weight->keep_ordered_sums();
}

Tensor MoeRank::rows_of(const Numbers& whole_batch) {
  const int64_t width = case_.d_model, first = rows_.first_token();
  Tensor tensor(case_.dtype, {rows_.tokens(), width}, rank_.memory());
  set_numbers(ctx(),
              Numbers(whole_batch.begin() + first * width,
                      whole_batch.begin() + (first + rows_.tokens()) * width),
              tensor);
  return tensor;
}

TensorView MoeRank::forward() {
  rank_.release();
  return layer_->forward(ctx(), rows(), x_, *saved_);
}

void MoeRank::share_load() {
  Numbers loads{0};
  for (int64_t e = 0; e < case_.experts; ++e) loads.push_back(0);
  for (const int32_t expert : read_back_as<int32_t>(ctx(), saved().counted)) {
    loads[0] += expert >= 0;
    if (expert >= 0) loads[static_cast<size_t>(expert) + 1] += 1;
  }
  loads = all_summed(loads);
  layer_->set_global_load({.step = ctx().step,
                           .tokens = static_cast<int64_t>(loads[0]),
                           .chosen = {loads.begin() + 1, loads.end()}});
}

void MoeRank::backward() {
  if (case_.losses.needs_global_load()) share_load();
  for (Weight* weight : layer_->weights()) weight->begin_step();
  layer_->backward(ctx(), rows(), x_, *saved_, dy_, dx_);
}

double MoeRank::objective() {
  const Numbers y = numbers_of(ctx(), forward()), dy = numbers_of(ctx(), dy_);
  const double projection = std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
  const Numbers logits = all_summed(spread(saved().routing->logits));
  const RoutingByHand routing = route_by_hand(logits, case_.experts, case_.batch, 0);
  const double balance = case_.losses.load_balance_scope == AuxiliaryLosses::Scope::kGlobal
                             ? routing.global_load_balance
                             : routing.load_balance;
  return all_summed({projection}).front() + case_.losses.load_balance * balance +
         case_.losses.router_z * routing.router_z;
}

Numbers MoeRank::spread(TensorView rows_here) {
  const int64_t width = rows_here.shape()[1];
  Numbers whole(static_cast<size_t>(case_.batch.tokens() * width));
  const Numbers here = numbers_of(ctx(), rows_here);
  std::copy(here.begin(), here.end(), whole.begin() + rows_.first_token() * width);
  return whole;
}

Numbers MoeRank::all_summed(const Numbers& numbers) {
  Tensor sum(DType::kFloat64, {static_cast<int64_t>(numbers.size())}, rank_.memory());
  upload<double>(ctx(), numbers, sum);
  world_.all_reduce(ctx().stream, sum, ReduceOp::kSum)->wait();
  return read_back_as<double>(ctx(), sum);
}

namespace {

// Adds one group's choices, drops and losses; `from` and `to` are its tokens.
void route_group(const Numbers& logits, int64_t experts, const std::vector<uint8_t>& real,
                 int64_t capacity, int64_t from, int64_t to, RoutingByHand& routing) {
  const auto count = static_cast<size_t>(experts);
  std::vector<int64_t> used(count);
  Numbers chosen(count), probability(count);
  double tokens = 0, square = 0;
  for (auto t = static_cast<size_t>(from); t < static_cast<size_t>(to); ++t) {
    const double* row = &logits[t * count];
    double sum = 0;
    size_t best = 0;
    for (size_t e = 0; e < count; ++e) {
      sum += std::exp(row[e]);
      if (row[e] > row[best]) best = e;
    }
    for (size_t e = 0; e < count; ++e) routing.probability.push_back(std::exp(row[e]) / sum);
    const bool routed = real.empty() || real[t] != 0;
    routing.chosen.push_back(routed ? static_cast<int32_t>(best) : -1);
    routing.kept.push_back(routed && used[best] < capacity ? static_cast<int32_t>(best) : -1);
    if (!routed) continue;
    used[best] += 1;
    chosen[best] += 1;
    tokens += 1;
    square += std::log(sum) * std::log(sum);
    for (size_t e = 0; e < count; ++e) {
      const double p = std::exp(row[e]) / sum;
      probability[e] += p;
      routing.entropy -= p * std::log(p);
    }
    routing.top_probability += std::exp(row[best]) / sum;
  }
  if (tokens == 0) return;
  for (size_t e = 0; e < count; ++e) {
    routing.load_balance +=
        static_cast<double>(experts) * chosen[e] / tokens * probability[e] / tokens;
  }
  routing.router_z += square / tokens;
}

// E sum_e f_e P_e with f and P over all routed tokens.
double global_load_balance(const RoutingByHand& routing, int64_t experts) {
  const auto count = static_cast<size_t>(experts);
  Numbers chosen(count), probability(count);
  double tokens = 0;
  for (size_t t = 0; t < routing.chosen.size(); ++t) {
    if (routing.chosen[t] < 0) continue;
    tokens += 1;
    chosen[static_cast<size_t>(routing.chosen[t])] += 1;
    for (size_t e = 0; e < count; ++e) probability[e] += routing.probability[t * count + e];
  }
  double balance = 0;
  for (size_t e = 0; e < count && tokens > 0; ++e) {
    balance += static_cast<double>(experts) * chosen[e] / tokens * probability[e] / tokens;
  }
  return balance;
}

}  // namespace

RoutingByHand route_by_hand(const Numbers& logits, int64_t experts, const GlobalBatch& batch,
                            int64_t capacity) {
  RoutingByHand routing;
  for (int64_t group = 0; group < batch.groups(); ++group) {
    route_group(logits, experts, batch.real, capacity, batch.first_sequence(group) * batch.length,
                batch.first_sequence(group + 1) * batch.length, routing);
  }
  routing.global_load_balance = global_load_balance(routing, experts);
  const auto groups = static_cast<double>(batch.groups());
  routing.load_balance /= groups;
  routing.router_z /= groups;
  return routing;
}

}  // namespace switchyard::test
