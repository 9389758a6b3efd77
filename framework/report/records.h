// What a run reports: plain values of the whole job, already summed over its ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

// One MoE layer, in one step or one evaluation.
struct LayerRecord {
  std::string name;           // "encoder.block.1.moe"
  std::vector<int64_t> load;  // tokens chosen per expert, before drops
  // In an evaluation: the same by label, [labels][experts], in the order of the record's labels.
  std::vector<std::vector<int64_t>> load_by_label;
  // In an evaluation that traces routing: the same by token id, [vocabulary, experts] in a row.
  std::vector<int64_t> load_by_token;
  double max_over_mean_load = 0;          // 1 is balanced
  double load_variation = 0;              // coefficient of variation, population
  int64_t dead_experts = 0;               // experts that nobody chose
  double dropped_share = 0;               // of all choices
  std::vector<double> dropped_by_choice;  // share of the k-th choices
  double weight_lost_share = 0;           // of the gate weight
  double router_entropy = 0;              // nats, mean over tokens
  double top_probability = 0;             // mean over tokens
  // Loss values with coefficients.
  double load_balance = 0, router_z = 0, importance = 0, load_loss = 0;
  int64_t rows_exchanged = 0;         // between ranks, forward, one direction
  int64_t bytes_exchanged = 0;        // of those rows
  int64_t bytes_exchanged_again = 0;  // of rows that backward sends a second time, in rounds
  double rank_imbalance = 0;          // max over mean rows that a rank computed
};

// A process takes the run up, at its start or where its last checkpoint left it.
struct StartRecord {
  int64_t step = 0;   // updates made so far
  int64_t steps = 0;  // of the whole run
  int64_t ranks = 1, expert_group = 1, threads = 1;
  std::string device;
  int64_t parameters = 0;  // of the whole model
};

struct StepRecord {
  int64_t step = 0;  // updates made, this one included
  double loss = 0;   // mean cross-entropy per target token, nats; no auxiliary terms
  // Summed over layers.
  double load_balance = 0, router_z = 0, importance = 0, load_loss = 0;
  double output_z = 0;  // mean z-loss per target token, with its coefficient
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  bool skipped = false;      // gradient not finite, update left out
  int64_t target_tokens = 0;
  int64_t tokens = 0;  // real ones, encoder's and decoder's
  double seconds = 0;
  double counting_seconds = 0;  // of those: the counting forward of load_balance.two_pass
  int64_t flops = 0;            // of the products that all ranks executed; ops/flop_counter.h
  double dropped_share = 0;     // over all MoE layers
  int64_t rows_exchanged = 0;
  std::vector<LayerRecord> layers;
};

struct LabelRecord {
  std::string name;
  double loss = 0;  // mean over its target tokens, nats
  int64_t target_tokens = 0;
};

struct EvaluationRecord {
  int64_t step = 0;
  double loss = 0;  // mean over all target tokens, nats
  int64_t target_tokens = 0;
  int64_t sequences = 0;
  double seconds = 0;
  double dropped_share = 0;
  double unigram_entropy = 0;  // of the same targets, per label; see data/unigram_entropy.h
  bool inputs_shuffled = false;
  std::vector<LabelRecord> labels;
  std::vector<LayerRecord> layers;
};

// A phase's share of a step, in seconds of its own: what phases inside it took isn't counted again.
struct PhaseRecord {
  std::string name;
  double seconds = 0;          // mean over ranks
  double least = 0, most = 0;  // of a rank
};

// Where the time of all steps of a process went, host time; see base/tracer.h. In training a step
// has what stands between it and the next one too: evaluation, checkpoint.
struct ProfileRecord {
  int64_t step = 0;  // updates made so far
  int64_t steps = 0, ranks = 1;
  double step_seconds = 0;          // mean over steps and ranks: the sum of all phases
  std::vector<PhaseRecord> phases;  // all of them, `other` last
  double accounted = 0;             // share of the phases other than `other`
};

}  // namespace switchyard
