// A table of numbers as a picture: one coloured cell for each, darker (or, on a dark page,
// brighter) for more. The palette can be told apart by colour-blind people and in grey.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

inline constexpr int kHeatLevels = 17;  // odd: 1 lies in the middle of a level of 0 to 2

// The style rules of the palette: `light` for light pages and paper, else for dark ones.
std::string heat_colours(bool light);

struct HeatMap {
  std::string title, hint;
  std::string row_name, column_name;  // "expert", "label"
  std::vector<std::string> rows;
  std::vector<std::string> columns;         // empty where the columns are spans of steps
  std::vector<int64_t> span_begins;         // first step of each, and one past the last
  std::vector<double> values;               // [rows, columns]; NaN: no number, a hatched cell
  double most = 1;                          // has the strongest colour; larger ones too
  enum class Numbers { kPercent, kTimes };  // of shares; of ratios to what would be fair
  Numbers numbers = Numbers::kTimes;

  int64_t column_count() const;
};

// A <figure>: title, hint, picture, scale. Small maps have their numbers in the cells.
std::string draw(const HeatMap& map);

}  // namespace switchyard
