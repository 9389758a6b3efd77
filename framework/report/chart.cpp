#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/simplify.h"
#include "report/svg.h"

namespace switchyard {

namespace {

constexpr double kLeft = 52, kRight = 8, kTop = 24, kBottom = 38, kHeight = 250;
constexpr size_t kMostPoints = 2000, kPointsOfAChart = 6000;
constexpr double kTolerance = 0.2;  // of the picture's units

struct Frame {
  double first, last;  // steps
  double low, high;    // values
  bool logarithmic = false;

  double x(double step) const {
    const double width = kFigureWidth - kLeft - kRight;
    return kLeft + (step - first) / std::max(last - first, 1e-9) * width;
  }
  double y(double value) const {
    const double height = kHeight - kTop - kBottom;
    const double share =
        logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return kHeight - kBottom - std::clamp(share, -0.1, 1.1) * height;
  }
};

const std::vector<int64_t>& steps_of(const Chart& chart, const Curve& curve) {
  return curve.step.empty() ? chart.step : curve.step;
}

bool drawable(const Frame& frame, double value) {
  return std::isfinite(value) && (!frame.logarithmic || value > 0);
}

// Nothing where no curve has a value.
std::optional<Frame> frame_of(const Chart& chart) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Frame frame{kInfinity, -kInfinity, kInfinity, -kInfinity};
  double least_positive = kInfinity;
  for (const Curve& curve : chart.curves) {
    for (size_t i = 0; i < curve.y.size(); ++i) {
      if (!std::isfinite(curve.y[i])) continue;
      const auto step = static_cast<double>(steps_of(chart, curve)[i]);
      frame.first = std::min(frame.first, step), frame.last = std::max(frame.last, step);
      frame.low = std::min(frame.low, curve.y[i]), frame.high = std::max(frame.high, curve.y[i]);
      if (curve.y[i] > 0) least_positive = std::min(least_positive, curve.y[i]);
    }
  }
  if (frame.first > frame.last) return std::nullopt;
  // A run from its beginning has its axis from 0.
  if (frame.first < 0.05 * frame.last) frame.first = 0;
  for (const Chart::Level& level : chart.levels) {
    frame.low = std::min(frame.low, level.y), frame.high = std::max(frame.high, level.y);
  }
  if (chart.log_if_wide && frame.low >= 0 && frame.high > 30 * least_positive) {
    frame.logarithmic = true;
    frame.low = least_positive / 1.2, frame.high *= 1.2;
    return frame;
  }
  if (chart.from_zero) frame.low = std::min(frame.low, 0.0);
  const double span = frame.high - frame.low;
  const double size = std::max(std::abs(frame.high), std::abs(frame.low));
  // Equal but for rounding: a flat line in the middle.
  const double room = span > 1e-6 * size ? 0.05 * span : std::max(0.1 * size, 1e-9);
  frame.high += room;
  if (!chart.from_zero) frame.low -= room;
  return frame;
}

std::string grid(const Chart& chart, const Frame& frame) {
  std::vector<Tick> ticks = frame.logarithmic  ? log_ticks(frame.low, frame.high)
                            : chart.as_percent ? linear_ticks(100 * frame.low, 100 * frame.high, 5)
                                               : linear_ticks(frame.low, frame.high, 5);
  std::string svg;
  for (const Tick& tick : ticks) {
    const double y =
        frame.y(chart.as_percent && !frame.logarithmic ? tick.value / 100 : tick.value);
    svg += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", kLeft, y,
                       kFigureWidth - kRight);
    svg += text_at(kLeft - 6, y + 4, "end", tick.text);
  }
  return svg + text_at(0, 12, "start", chart.y_name, "class=\"axis-name\"") + "\n" +
         step_axis(frame.first, frame.last, kLeft, kFigureWidth - kRight, kHeight - kBottom);
}

std::string path_of(const Chart& chart, const Curve& curve, const Frame& frame, size_t most) {
  std::vector<Point> points;
  for (size_t i = 0; i < curve.y.size(); ++i) {
    if (!drawable(frame, curve.y[i])) continue;
    const auto step = static_cast<double>(steps_of(chart, curve)[i]);
    points.push_back({frame.x(step), frame.y(curve.y[i])});
  }
  if (points.empty()) return "";
  const std::string name = escape(curve.name);
  const bool faint = curve.kind == Curve::Kind::kFaint;
  std::string svg =
      fmt::format("<path class=\"curve{} c{}\" d=\"", faint ? " faint" : "", curve.colour);
  const char* command = "M";
  const std::vector<size_t> kept = simplify(points, kTolerance, most);
  for (const size_t i : kept) {
    svg += fmt::format("{}{:.1f} {:.1f}", command, points[i].x, points[i].y);
    command = "L";
  }
  svg += fmt::format("\"><title>{}</title></path>\n", name);
  // One point is no line, and few deserve to be seen.
  if (curve.kind != Curve::Kind::kDots && points.size() > 1) return svg;
  for (const size_t i : kept) {
    svg += fmt::format("<circle class=\"dot d{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>",
                       curve.colour, points[i].x, points[i].y);
  }
  return svg + "\n";
}

std::string legend(const Chart& chart) {
  if (chart.curves.size() + chart.levels.size() + chart.resumes.size() < 2) return "";  // as titled
  std::string html = "<p class=\"legend\">";
  for (const Curve& curve : chart.curves) {
    html += fmt::format(
        "<span><svg class=\"key\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path "
        "class=\"curve{} c{}\" d=\"M1 5H25\"/></svg>{}</span>\n",
        curve.kind == Curve::Kind::kFaint ? " faint" : "", curve.colour, escape(curve.name));
  }
  for (const Chart::Level& level : chart.levels) {
    html += fmt::format(
        "<span><svg class=\"key\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path "
        "class=\"level\" d=\"M1 5H25\"/></svg>{}</span>\n",
        escape(level.name));
  }
  if (!chart.resumes.empty()) {
    html +=
        "<span><svg class=\"key\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path "
        "class=\"resume\" d=\"M13 0V10\"/></svg>resumed</span>\n";
  }
  return html + "</p>\n";
}

// What the curves say, for who can't see them.
std::string in_words(const Chart& chart) {
  std::string words = chart.title + ", " + chart.y_name + ", by step.";
  for (const Curve& curve : chart.curves) {
    const auto known = [](double value) { return std::isfinite(value); };
    const auto first = std::find_if(curve.y.begin(), curve.y.end(), known);
    if (first == curve.y.end() || curve.kind == Curve::Kind::kFaint) continue;
    const double last = *std::find_if(curve.y.rbegin(), curve.y.rend(), known);
    const auto text = [&](double v) { return chart.as_percent ? percent(v) : readable(v); };
    words += fmt::format(" {}: from {} to {}.", curve.name, text(*first), text(last));
  }
  return words;
}

}  // namespace

std::string draw(const Chart& chart) {
  const std::optional<Frame> frame = frame_of(chart);
  if (!frame) return "";
  const size_t most = std::clamp(kPointsOfAChart / chart.curves.size(), size_t{200}, kMostPoints);
  std::string html = fmt::format("<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n",
                                 escape(chart.title), escape(chart.hint));
  html += legend(chart) + open_svg(kFigureWidth, kHeight, in_words(chart)) + grid(chart, *frame);
  for (const Chart::Level& level : chart.levels) {
    html += fmt::format("<path class=\"level\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>\n", kLeft,
                        frame->y(level.y), kFigureWidth - kRight);
  }
  for (const int64_t step : chart.resumes) {
    const auto at = static_cast<double>(step);
    if (at < frame->first || at > frame->last) continue;
    html += fmt::format(
        "<path class=\"resume\" d=\"M{:.1f} {:.1f}V{:.1f}\"><title>resumed after "
        "step {}</title></path>\n",
        frame->x(at), kTop, kHeight - kBottom, step);
  }
  for (const Curve& curve : chart.curves) html += path_of(chart, curve, *frame, most);
  return html + "</svg>\n</figure>\n";
}

std::vector<double> smoothed(const std::vector<double>& values, double window) {
  const double keep = 1 - 2 / (std::max(window, 1.0) + 1);
  double sum = 0, weight = 0;
  std::vector<double> means;
  means.reserve(values.size());
  for (const double value : values) {
    if (std::isfinite(value)) {
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
    }
    means.push_back(weight > 0 ? sum / weight : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

}  // namespace switchyard
