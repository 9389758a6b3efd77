#include "trainer/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {

static void reduce(Collectives& world, std::span<double> values, ReduceOp op) {
  InlineStream stream;
  const TensorView view(values.data(), DType::kFloat64, {static_cast<int64_t>(values.size())});
  if (!values.empty()) world.all_reduce(stream, view, op)->wait();
}

std::vector<double> sum_over_ranks(Collectives& world, const std::vector<double>& values) {
  std::vector<double> sums = values;
  add_up_over_ranks(world, sums);
  return sums;
}

void add_up_over_ranks(Collectives& world, std::span<double> values) {
  reduce(world, values, ReduceOp::kSum);
}

std::vector<double> max_over_ranks(Collectives& world, const std::vector<double>& values) {
  std::vector<double> most = values;
  reduce(world, most, ReduceOp::kMax);
  return most;
}

static double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

static double ratio(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

static void describe_load(const MoeObservation& seen, LayerRecord& record) {
  const auto experts = static_cast<double>(seen.chosen.size());
  const double mean = sum(seen.chosen) / experts;
  double squares = 0;
  record.load.clear();
  record.max_over_mean_load = 0;
  record.dead_experts = 0;
  for (double count : seen.chosen) {
    record.load.push_back(static_cast<int64_t>(count));
    record.max_over_mean_load = std::max(record.max_over_mean_load, ratio(count, mean));
    squares += (count - mean) * (count - mean);
    record.dead_experts += count == 0;
  }
  record.load_variation = ratio(std::sqrt(squares / experts), mean);
}

static void summarise(const MoeLayer& layer, const MoeObservation& seen, LayerRecord& record) {
  record.name = layer.name();
  describe_load(seen, record);
  const double choices = sum(seen.chosen);
  const double choices_of_rank_k =
      ratio(choices, static_cast<double>(seen.dropped_by_choice.size()));
  record.dropped_by_choice.clear();
  for (double dropped : seen.dropped_by_choice) {
    record.dropped_by_choice.push_back(ratio(dropped, choices_of_rank_k));
  }
  record.dropped_share = ratio(sum(seen.dropped_by_choice), choices);
  record.weight_lost_share = ratio(seen.weight_lost, seen.weight);
  record.router_entropy = ratio(seen.entropy, seen.tokens);
  record.top_probability = ratio(seen.top_probability, seen.tokens);
  record.load_by_label.clear();
  for (size_t first = 0; first < seen.chosen_by_label.size(); first += seen.chosen.size()) {
    const auto begin = seen.chosen_by_label.begin() + static_cast<int64_t>(first);
    record.load_by_label.emplace_back(begin, begin + static_cast<int64_t>(seen.chosen.size()));
  }
  record.load_by_token.assign(seen.chosen_by_token.begin(), seen.chosen_by_token.end());
  record.load_balance = layer.losses().load_balance_of(seen);
  record.router_z = seen.router_z;
  record.importance = seen.importance;
  record.load_loss = seen.load;
  record.rows_exchanged = static_cast<int64_t>(seen.rows_sent);
  record.bytes_exchanged = static_cast<int64_t>(seen.bytes_sent);
  record.bytes_exchanged_again = static_cast<int64_t>(seen.bytes_sent_again);
}

void LayerSummary::fill(Collectives& world, const std::vector<MoeLayer*>& layers,
                        std::vector<LayerRecord>& records) {
  packed_.clear();
  most_rows_.clear();
  ends_.clear();
  for (const MoeLayer* layer : layers) {
    layer->observation().append_to(packed_);
    ends_.push_back(packed_.size());
    most_rows_.push_back(layer->observation().rows_computed);
  }
  reduce(world, packed_, ReduceOp::kSum);
  reduce(world, most_rows_, ReduceOp::kMax);

  records.resize(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    seen_ = layers[i]->observation();
    seen_.unpack(std::span(packed_).subspan(begin, ends_[i] - begin));
    summarise(*layers[i], seen_, records[i]);
    records[i].rank_imbalance = ratio(most_rows_[i] * world.size(), seen_.rows_computed);
  }
}

double dropped_share(const std::vector<LayerRecord>& layers) {
  double choices = 0, dropped = 0;
  for (const LayerRecord& layer : layers) {
    const auto load =
        static_cast<double>(std::accumulate(layer.load.begin(), layer.load.end(), int64_t{0}));
    choices += load;
    dropped += load * layer.dropped_share;
  }
  return ratio(dropped, choices);
}

}  // namespace switchyard
