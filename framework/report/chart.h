// A line chart over the steps of a run, drawn as SVG. What is shown where is the report's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

struct Curve {
  enum class Kind { kLine, kFaint, kDots };  // kDots: a line with a dot at every point

  std::string name;
  std::vector<double> y;  // a value for each step, or none where NaN
  Kind kind = Kind::kLine;
  int colour = 0;             // of the style sheet's 8; dashes tell them apart without colour
  std::vector<int64_t> step;  // where empty: the chart's steps
};

struct Chart {
  std::string title, hint;  // the hint says in a line what to see
  std::string y_name;       // with its unit
  std::vector<int64_t> step;
  std::vector<Curve> curves;
  struct Level {
    double y;
    std::string name;
  };
  std::vector<Level> levels;     // horizontal lines
  std::vector<int64_t> resumes;  // vertical ones
  bool from_zero = false;
  bool as_percent = false;   // values are shares
  bool log_if_wide = false;  // a logarithmic axis where values differ by more than 30 times
};

// A <figure>: title, hint, legend and the picture. Each curve has at most 2,000 points, fewer in a
// chart of many. Empty when no curve has a value.
std::string draw(const Chart& chart);

// The exponential mean over about `window` values, begun without bias; NaN values are passed over.
std::vector<double> smoothed(const std::vector<double>& values, double window);

}  // namespace switchyard
