#include "report/console_sink.h"

#include <algorithm>

#include "base/log.h"
#include "report/specialisation.h"

namespace switchyard {

static double worst_imbalance(const std::vector<LayerRecord>& layers) {
  double worst = 0;
  for (const LayerRecord& layer : layers) worst = std::max(worst, layer.max_over_mean_load);
  return worst;
}

static std::string minutes_and_seconds(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

static void say_what_experts_took(const EvaluationRecord& record) {
  const std::vector<std::string> lines = describe_specialisation(record);
  if (lines.empty()) return;
  log_info(
      "  what experts took: share of a token's label that its expert tells; then each expert's "
      "favourite label, times its share of all tokens");
  for (const std::string& line : lines) log_info("    {}", line);
}

void ConsoleSink::step(const StepRecord& record) {
  seconds_ += record.seconds;
  tokens_ += record.tokens;
  ++steps_;
  total_seconds_ += record.seconds;
  ++total_seen_;
  if (record.skipped) {
    log_warning("step {}: gradient not finite, update skipped", record.step);
  }
  if (record.step % every_ != 0 && record.step != total_steps_ && total_seen_ != 1) return;
  std::string line = fmt::format(
      "step {:>6}/{}  loss {:.4f}  norm {:.3f}  rate {:.2e}  {:.0f} tokens/s", record.step,
      total_steps_, record.loss, record.gradient_norm, record.learning_rate,
      seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0.0);
  if (!record.layers.empty()) {
    line += fmt::format("  load max/mean {:.2f}  dropped {:.2f} %  rows exchanged {}",
                        worst_imbalance(record.layers), 100 * record.dropped_share,
                        record.rows_exchanged);
  }
  const double left = total_seconds_ / static_cast<double>(total_seen_) *
                      static_cast<double>(total_steps_ - record.step);
  log_info("{}  left {}", line, minutes_and_seconds(left));
  seconds_ = 0;
  tokens_ = steps_ = 0;
}

void ConsoleSink::evaluation(const EvaluationRecord& record) {
  log_info("evaluation at step {}{}: loss {:.4f}, per-language unigram entropy {:.4f} ({})",
           record.step, record.inputs_shuffled ? ", encoder inputs shuffled" : "", record.loss,
           record.unigram_entropy, record.loss < record.unigram_entropy ? "below" : "not below");
  std::string labels;
  for (const LabelRecord& label : record.labels) {
    if (label.target_tokens > 0) labels += fmt::format("  {} {:.3f}", label.name, label.loss);
  }
  if (!labels.empty()) log_info("  loss by label:{}", labels);
  log_info("  {} sequences, {} target tokens, dropped {:.2f} %, {:.1f} s", record.sequences,
           record.target_tokens, 100 * record.dropped_share, record.seconds);
  if (record.step == total_steps_) say_what_experts_took(record);
}

}  // namespace switchyard
