#include "report/progress_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard {

namespace {

constexpr size_t kRecentSteps = 20;
constexpr size_t kLongestLine = 200;

// 1234567 as "1.23 M", with `space` between: three digits, so that the width hardly changes.
std::string with_prefix(double value, const char* space) {
  constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  while (value >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
    value /= 1000;
    ++prefix;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}{}", value, decimals, space, kPrefixes[prefix]);
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e12) + 0.5);
  const int64_t days = whole / 86'400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}:{:02} h", days, hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

double worst_imbalance(const std::vector<LayerRecord>& layers) {
  double worst = 0;
  for (const LayerRecord& layer : layers) worst = std::max(worst, layer.max_over_mean_load);
  return worst;
}

}  // namespace

void ProgressMeter::Work::add(const Work& other) {
  seconds += other.seconds;
  tokens += other.tokens;
  flops += other.flops;
}

void ProgressMeter::add(const StepRecord& record) {
  ++steps_seen_;
  seconds_ += record.seconds;
  last_ = record;
  const Work work{record.seconds, static_cast<double>(record.tokens),
                  static_cast<double>(record.flops)};
  since_last_.add(work);
  recent_.push_back(work);
  if (recent_.size() > kRecentSteps) recent_.pop_front();
}

ProgressFigures ProgressMeter::figures(const Work& work) const {
  ProgressFigures figures{.last = last_, .total_steps = total_steps_};
  if (work.seconds > 0) {
    figures.tokens_per_second = work.tokens / work.seconds;
    figures.flops_per_second = work.flops / work.seconds;
  }
  figures.seconds_left = seconds_ / static_cast<double>(steps_seen_) *
                         static_cast<double>(total_steps_ - figures.last.step);
  return figures;
}

ProgressFigures ProgressMeter::since_last() {
  const ProgressFigures result = figures(since_last_);
  since_last_ = {};
  return result;
}

ProgressFigures ProgressMeter::recent() const {
  Work work;
  for (const Work& step : recent_) work.add(step);
  return figures(work);
}

std::string progress_line(const ProgressFigures& figures) {
  const StepRecord& last = figures.last;
  std::string line =
      fmt::format("step {:>6}/{}  loss {:.4f}  norm {:.3g}  rate {:.2e}  {:.0f} tokens/s  {}FLOP/s",
                  last.step, figures.total_steps, last.loss, last.gradient_norm, last.learning_rate,
                  figures.tokens_per_second, with_prefix(figures.flops_per_second, " "));
  if (!last.layers.empty()) {
    line +=
        fmt::format("  load max/mean {:.2f}  dropped {:.2f} %  rows exchanged {}",
                    worst_imbalance(last.layers), 100 * last.dropped_share, last.rows_exchanged);
  }
  line += "  left " + duration(figures.seconds_left);
  return line.substr(0, kLongestLine);
}

namespace {

// A part of the bar. The higher the number, the sooner it is left out for want of room.
struct Piece {
  int expendable;
  std::string text;
};

std::vector<Piece> pieces_of(const ProgressFigures& figures) {
  const StepRecord& last = figures.last;
  std::vector<Piece> pieces = {
      {0, fmt::format("{}/{}", last.step, figures.total_steps)},
      {1, fmt::format("loss {:.3f}", last.loss)},
      {4, with_prefix(figures.tokens_per_second, "") + " tok/s"},
      {7, with_prefix(figures.flops_per_second, " ") + "FLOP/s"},
  };
  if (!last.layers.empty()) {
    pieces.push_back({5, fmt::format("load {:.2f}", worst_imbalance(last.layers))});
    pieces.push_back({6, fmt::format("drop {:.1f}%", 100 * last.dropped_share)});
  }
  pieces.push_back({2, "left " + duration(figures.seconds_left)});
  return pieces;
}

std::string joined(const std::vector<Piece>& pieces) {
  std::string text;
  for (const Piece& piece : pieces) text += (text.empty() ? "" : "  ") + piece.text;
  return text;
}

// "[####......]  "
std::string gauge(double share, size_t width) {
  const auto done = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width));
  return fmt::format("[{}{}]  ", std::string(done, '#'), std::string(width - done, '.'));
}

}  // namespace

std::string progress_bar(const ProgressFigures& figures, int columns) {
  constexpr size_t kFrame = 4, kNarrowest = 8, kWidest = 30;  // of the gauge; "[]" and two spaces
  constexpr int kGaugeExpendable = 3;
  const auto room = static_cast<size_t>(std::max(0, columns - 1));
  std::vector<Piece> pieces = pieces_of(figures);
  const auto by_expendable = [](const Piece& a, const Piece& b) {
    return a.expendable < b.expendable;
  };
  bool with_gauge = true;
  for (;;) {
    const size_t needed = joined(pieces).size() + (with_gauge ? kFrame + kNarrowest : 0);
    if (needed <= room || pieces.size() == 1) break;
    const auto first_out = std::max_element(pieces.begin(), pieces.end(), by_expendable);
    if (with_gauge && first_out->expendable < kGaugeExpendable) {
      with_gauge = false;
    } else {
      pieces.erase(first_out);
    }
  }
  const std::string text = joined(pieces).substr(0, room);
  if (!with_gauge) return text;
  const double share = static_cast<double>(figures.last.step) /
                       static_cast<double>(std::max<int64_t>(1, figures.total_steps));
  return gauge(share, std::min(kWidest, room - text.size() - kFrame)) + text;
}

}  // namespace switchyard
