// Runs that never ran: records for sinks and logs for reports, of any size.
#pragma once

#include <cmath>
#include <fstream>
#include <string>

#include "report/run_log.h"

namespace switchyard::test {

inline StepRecord made_up_step(int64_t step, int64_t layers, int64_t experts) {
  const auto at = static_cast<double>(step);
  StepRecord record{.step = step,
                    .loss = 4 + 4 / std::sqrt(at + 1) + 0.1 * std::sin(12.9898 * at),
                    .load_balance = 0.04,
                    .router_z = 0.01 / (at + 1),
                    .learning_rate = 0.003,
                    .gradient_norm = 1 + 0.3 * std::sin(78.233 * at),
                    .target_tokens = 100,
                    .tokens = 500,
                    .seconds = 0.25,
                    .flops = 1000 * step,
                    .dropped_share = 0.02};
  for (int64_t l = 0; l < layers; ++l) {
    LayerRecord layer{.name = "encoder.block." + std::to_string(2 * l + 1) + ".moe",
                      .dropped_share = 0.02 + 0.01 * std::sin(0.3 * at),
                      .router_entropy = 1.2 + 0.2 * std::cos(0.2 * at)};
    for (int64_t e = 0; e < experts; ++e) layer.load.push_back((step * (l + 1) + 7 * e) % 13);
    record.layers.push_back(layer);
  }
  return record;
}

inline EvaluationRecord made_up_evaluation(int64_t step, int64_t layers, int64_t experts,
                                           const std::vector<std::string>& labels) {
  EvaluationRecord record{.step = step,
                          .loss = 4.5,
                          .target_tokens = 100,
                          .sequences = 10,
                          .seconds = 1,
                          .unigram_entropy = 5};
  for (const std::string& label : labels) {
    record.labels.push_back({.name = label, .loss = 4.5, .target_tokens = 50});
  }
  for (int64_t l = 0; l < layers; ++l) {
    LayerRecord layer{.name = "encoder.block." + std::to_string(2 * l + 1) + ".moe"};
    for (size_t i = 0; i < labels.size(); ++i) {
      layer.load_by_label.emplace_back();
      for (int64_t e = 0; e < experts; ++e) {
        layer.load_by_label.back().push_back(1 + (e * 31 + static_cast<int64_t>(i) * 17) % 23);
      }
    }
    record.layers.push_back(layer);
  }
  return record;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::app) << text;
}

}  // namespace switchyard::test
