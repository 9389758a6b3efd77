#include "report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/svg.h"

namespace switchyard {

namespace {

struct Colour {
  int red, green, blue;
};
// ColorBrewer's YlGnBu: lightness falls evenly, and nothing hangs on telling red from green.
constexpr std::array<Colour, 9> kPalette = {{{255, 255, 217},
                                             {237, 248, 177},
                                             {199, 233, 180},
                                             {127, 205, 187},
                                             {65, 182, 196},
                                             {29, 145, 192},
                                             {34, 94, 168},
                                             {37, 52, 148},
                                             {8, 29, 88}}};

constexpr double kTop = 18, kRight = 8, kCharacter = 7.8, kScaleHeight = 34;
constexpr size_t kCellsWithTitles = 600, kLongestName = 22;

Colour colour_of(int level) {
  const double at = static_cast<double>(level) / (kHeatLevels - 1) * (kPalette.size() - 1);
  const auto below = std::min(static_cast<size_t>(at), kPalette.size() - 2);
  const double share = at - static_cast<double>(below);
  const auto between = [&](int Colour::*part) {
    return static_cast<int>(
        std::lround((1 - share) * kPalette[below].*part + share * kPalette[below + 1].*part));
  };
  return {between(&Colour::red), between(&Colour::green), between(&Colour::blue)};
}

// Relative luminance as the Web Content Accessibility Guidelines define it.
double luminance(const Colour& colour) {
  const auto linear = [](int part) {
    const double c = part / 255.0;
    return c <= 0.03928 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
}

int level_of(const HeatMap& map, double value) {
  return static_cast<int>(std::lround(std::clamp(value / map.most, 0.0, 1.0) * (kHeatLevels - 1)));
}

std::string number_of(const HeatMap& map, double value) {
  if (map.numbers == HeatMap::Numbers::kPercent) return fmt::format("{:.0f}", 100 * value);
  return value >= 9.95 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

std::string number_with_unit(const HeatMap& map, double value) {
  return number_of(map, value) + (map.numbers == HeatMap::Numbers::kPercent ? " %" : " x");
}

struct Grid {
  double left, cell_width, cell_height;
  int64_t columns;

  double x(int64_t column) const { return left + cell_width * static_cast<double>(column); }
  double y(int64_t row) const { return kTop + cell_height * static_cast<double>(row); }
};

Grid grid_of(const HeatMap& map) {
  size_t longest = 2;
  for (const std::string& row : map.rows) longest = std::max(longest, characters(row));
  const double left = 10 + kCharacter * static_cast<double>(std::min(longest, kLongestName));
  const auto columns = static_cast<double>(map.column_count());
  const auto rows = static_cast<double>(map.rows.size());
  return {left, (kFigureWidth - left - kRight) / columns, std::clamp(260 / rows, 2.0, 24.0),
          map.column_count()};
}

// Every how many rows or columns one is named, for names of `room` units each.
int64_t every(double cell, double room) {
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(room / cell)));
}

std::string title_of(const HeatMap& map, int64_t row, int64_t column, double value) {
  const std::string place =
      map.columns.empty()
          ? fmt::format("steps {} to {}", map.span_begins[static_cast<size_t>(column)],
                        map.span_begins[static_cast<size_t>(column) + 1] - 1)
          : map.column_name + " " + map.columns[static_cast<size_t>(column)];
  return fmt::format("{} {}, {}: {}", map.row_name, map.rows[static_cast<size_t>(row)], place,
                     std::isnan(value) ? "no tokens" : number_with_unit(map, value));
}

// A cell of its own, with a title and, where there is room, its number.
std::string titled_cell(const HeatMap& map, const Grid& grid, int64_t row, int64_t column) {
  const double value = map.values[static_cast<size_t>(row * grid.columns + column)];
  const std::string colour = std::isnan(value) ? "none" : std::to_string(level_of(map, value));
  std::string svg = fmt::format(
      "<rect class=\"q q{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"><title>"
      "{}</title></rect>",
      colour, grid.x(column), grid.y(row), grid.cell_width, grid.cell_height,
      escape(title_of(map, row, column, value)));
  if (grid.cell_width >= 24 && grid.cell_height >= 15 && !std::isnan(value)) {
    svg += text_at(grid.x(column) + grid.cell_width / 2, grid.y(row) + grid.cell_height / 2 + 4,
                   "middle", number_of(map, value), "class=\"number t" + colour + "\"");
  }
  return svg;
}

std::string titled_cells(const HeatMap& map, const Grid& grid) {
  std::string svg;
  for (int64_t row = 0; row < static_cast<int64_t>(map.rows.size()); ++row) {
    for (int64_t column = 0; column < grid.columns; ++column) {
      svg += titled_cell(map, grid, row, column);
    }
    svg += "\n";
  }
  return svg;
}

// One path for each level: a few bytes a cell. Neighbours of a level in a row are one stroke.
std::string plain_cells(const HeatMap& map, const Grid& grid) {
  std::vector<std::string> paths(kHeatLevels + 1);
  for (int64_t row = 0; row < static_cast<int64_t>(map.rows.size()); ++row) {
    const auto level = [&](int64_t column) {
      const double value = map.values[static_cast<size_t>(row * grid.columns + column)];
      return static_cast<size_t>(std::isnan(value) ? kHeatLevels : level_of(map, value));
    };
    for (int64_t begin = 0, end = 0; begin < grid.columns; begin = end) {
      while (end < grid.columns && level(end) == level(begin)) ++end;
      paths[level(begin)] += fmt::format("M{} {}h{}", begin, row, end - begin);
    }
  }
  // One unit of the group is one cell; a stroke as wide as a cell fills it.
  std::string svg =
      fmt::format("<g transform=\"translate({:.2f} {:.2f}) scale({:.4f} {:.4f})\">\n", grid.left,
                  kTop + grid.cell_height / 2, grid.cell_width, grid.cell_height);
  for (size_t level = 0; level < paths.size(); ++level) {
    if (paths[level].empty()) continue;
    const std::string name = level == kHeatLevels ? "none" : std::to_string(level);
    svg += fmt::format("<path class=\"s s{}\" d=\"{}\"/>\n", name, paths[level]);
  }
  return svg + "</g>\n";
}

std::string names(const HeatMap& map, const Grid& grid, double bottom) {
  std::string svg = text_at(0, 11, "start", map.row_name, "class=\"axis-name\"");
  const int64_t each_row = every(grid.cell_height, 11);
  for (int64_t row = 0; row < static_cast<int64_t>(map.rows.size()); row += each_row) {
    svg += text_at(grid.left - 6, grid.y(row) + grid.cell_height / 2 + 4, "end",
                   shortened(map.rows[static_cast<size_t>(row)], kLongestName));
  }
  if (map.columns.empty()) {
    return svg + step_axis(static_cast<double>(map.span_begins.front()),
                           static_cast<double>(map.span_begins.back() - 1), grid.left,
                           kFigureWidth - kRight, bottom);
  }
  size_t longest = 1;
  for (const std::string& column : map.columns) longest = std::max(longest, characters(column));
  const int64_t each = every(grid.cell_width, kCharacter * static_cast<double>(longest) + 4);
  for (int64_t column = 0; column < grid.columns; column += each) {
    svg += text_at(grid.x(column) + grid.cell_width / 2, bottom + 15, "middle",
                   map.columns[static_cast<size_t>(column)]);
  }
  return svg + text_at((grid.left + kFigureWidth - kRight) / 2, bottom + 30, "middle",
                       map.column_name, "class=\"axis-name\"");
}

std::string scale(const HeatMap& map, const Grid& grid, double top) {
  constexpr double kWidth = 200, kHeight = 10;
  const double x0 = grid.left;
  std::string svg;
  for (int level = 0; level < kHeatLevels; ++level) {
    svg += fmt::format(
        "<rect class=\"q{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>", level,
        x0 + kWidth / kHeatLevels * level, top, kWidth / kHeatLevels + 0.3, kHeight);
  }
  const bool is_percent = map.numbers == HeatMap::Numbers::kPercent;
  const double shown = is_percent ? 100 * map.most : map.most;
  for (const Tick& tick : linear_ticks(0, shown, 4)) {
    const double x = x0 + tick.value / shown * kWidth;
    svg += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v3\"/>", x, top + kHeight);
    svg += text_at(x, top + kHeight + 14, "middle", tick.text);
  }
  return svg + text_at(x0 + kWidth + 14, top + 9, "start", is_percent ? "%" : "times; 1 is fair",
                       "class=\"axis-name\"");
}

std::string in_words(const HeatMap& map) {
  std::string words = fmt::format("{}: a table of {} rows, one for each {}, and {} columns.",
                                  map.title, map.rows.size(), map.row_name, map.column_count());
  auto greatest = map.values.end();
  for (auto it = map.values.begin(); it != map.values.end(); ++it) {
    if (!std::isnan(*it) && (greatest == map.values.end() || *it > *greatest)) greatest = it;
  }
  if (greatest == map.values.end()) return words;
  const int64_t at = greatest - map.values.begin();
  return words + " Greatest: " +
         title_of(map, at / map.column_count(), at % map.column_count(), *greatest) + ".";
}

}  // namespace

int64_t HeatMap::column_count() const {
  return static_cast<int64_t>(columns.empty() ? span_begins.size() - 1 : columns.size());
}

std::string heat_colours(bool light) {
  std::string css;
  for (int level = 0; level < kHeatLevels; ++level) {
    const Colour colour = colour_of(light ? level : kHeatLevels - 1 - level);
    // Black or white, whichever contrasts more: equal at a luminance of 0.18.
    css += fmt::format("--q{0}:#{1:02x}{2:02x}{3:02x};--t{0}:{4};", level, colour.red, colour.green,
                       colour.blue, luminance(colour) > 0.18 ? "#101418" : "#ffffff");
  }
  return css;
}

std::string draw(const HeatMap& map) {
  const Grid grid = grid_of(map);
  const double bottom = grid.y(static_cast<int64_t>(map.rows.size()));
  const double height = bottom + 42 + kScaleHeight;
  std::string html = fmt::format("<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n",
                                 escape(map.title), escape(map.hint));
  html += open_svg(kFigureWidth, height, in_words(map));
  html += map.values.size() <= kCellsWithTitles ? titled_cells(map, grid) : plain_cells(map, grid);
  return html + names(map, grid, bottom) + "\n" + scale(map, grid, bottom + 42) +
         "</svg>\n</figure>\n";
}

}  // namespace switchyard
