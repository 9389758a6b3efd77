// Small parts that figures are put together from: escaped text, numbers as people read them, ticks
// and texts of a picture. A picture's units are about CSS pixels.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Safe as HTML, SVG and XML text and in attributes: <, >, &, quotes as entities; control characters
// that no document may hold left out.
std::string escape(std::string_view text);

// "4.061", "0.00028", "8.67 k", "1.2 M": `digits` significant ones. NaN: "–".
std::string readable(double value, int digits = 4);
// "12.3 %" of 0.123; below 10 % with one more decimal.
std::string percent(double share);
// "9 min 51 s"
std::string duration(double seconds);
// "1 step", "3 steps"; thousands apart.
std::string counted(int64_t count, std::string_view noun);
std::string with_thousands(int64_t count);

// Characters of UTF-8 text.
size_t characters(std::string_view text);
// At most `most` characters, the last one "…" if some are left out.
std::string shortened(std::string_view text, size_t most);

struct Tick {
  double value = 0;
  std::string text;
};
// About `wanted` round numbers (1, 2 or 5 times a power of ten) inside [low, high].
std::vector<Tick> linear_ticks(double low, double high, int wanted);
// Powers of ten and, where they are few, 2 and 5 times them. 0 < low < high.
std::vector<Tick> log_ticks(double low, double high);

// <text> at (x, y). anchor: "start", "middle" or "end"; `more` holds further attributes.
std::string text_at(double x, double y, std::string_view anchor, std::string_view text,
                    std::string_view more = "");
// A step axis below a frame: ticks, their numbers and the word "step".
//   x0, x1  of the steps first and last; y of the frame's lower edge
std::string step_axis(double first, double last, double x0, double x1, double y);

// Opens <svg> of a width and height; alt says what a person who can't see the picture should know.
std::string open_svg(double width, double height, std::string_view alt);

inline constexpr double kFigureWidth = 460;

}  // namespace switchyard
