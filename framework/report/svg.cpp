#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard {

std::string escape(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default: {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 || c == '\n' || c == '\t') safe += c;
      }
    }
  }
  return safe;
}

static bool begins_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string shortened(std::string_view text, size_t most) {
  if (characters(text) <= most) return std::string(text);
  size_t seen = 0, end = 0;
  while (end < text.size() && (seen += begins_character(text[end])) < most) ++end;
  return std::string(text.substr(0, end)) + "…";
}

static std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// `digits` significant ones without an exponent.
static std::string significant(double value, int digits) {
  const int before = value == 0 ? 1 : static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return without_trailing_zeros(fmt::format("{:.{}f}", value, std::max(0, digits - before)));
}

using Prefix = std::pair<double, const char*>;
static constexpr Prefix kNoPrefix = {1.0, ""};

static Prefix prefix_of(double size) {
  static constexpr Prefix kPrefixes[] = {
      {1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}};
  for (const Prefix& prefix : kPrefixes) {
    if (size >= prefix.first) return prefix;
  }
  return kNoPrefix;
}

std::string readable(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "–" : value > 0 ? "∞" : "-∞";
  const double size = std::abs(value);
  if (size != 0 && size < 1e-4) return fmt::format("{:.{}e}", value, std::max(0, digits - 1));
  if (size < 1e4) return significant(value, digits);
  const auto [unit, prefix] = prefix_of(size);
  return significant(value / unit, digits) + prefix;
}

std::string percent(double share) {
  if (!std::isfinite(share)) return "–";
  const double value = 100 * share;
  if (value == 0) return "0 %";
  return fmt::format("{:.{}f} %", value, std::abs(value) < 10 ? 2 : 1);
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
  if (whole < 60) return fmt::format("{} s", readable(seconds, 2));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string with_thousands(int64_t count) {
  std::string digits = std::to_string(count);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return digits;
}

std::string counted(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", with_thousands(count), noun, count == 1 ? "" : "s");
}

std::vector<Tick> linear_ticks(double low, double high, int wanted) {
  std::vector<Tick> ticks;
  const double largest = std::max(std::abs(low), std::abs(high));
  if (!(high - low > 1e-9 * largest) || wanted < 1) return ticks;
  const double rough = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double times : {1.0, 2.0, 5.0}) {
    if (times * power >= rough * 0.999) {
      step = times * power;
      break;
    }
  }
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) {
    const double value = i == 0 ? 0.0 : i * step;
    ticks.push_back({value, ""});
  }
  // One unit for all of them.
  const auto [unit, prefix] = largest >= 1e4 ? prefix_of(largest) : kNoPrefix;
  for (Tick& tick : ticks) {
    const std::string number = readable(tick.value / unit, 6);
    tick.text = tick.value == 0 ? "0" : number + prefix;
  }
  return ticks;
}

std::vector<Tick> log_ticks(double low, double high) {
  std::vector<Tick> ticks;
  const bool few = std::log10(high / low) < 3;
  for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
    for (const double times : {1.0, 2.0, 5.0}) {
      const double value = times * std::pow(10.0, power);
      if (value < low * 0.999 || value > high * 1.001 || (times != 1 && !few)) continue;
      ticks.push_back({value, readable(value, 1)});
    }
  }
  return ticks;
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view text,
                    std::string_view more) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}{}>{}</text>", x, y,
                     anchor, more.empty() ? "" : " ", more, escape(text));
}

std::string step_axis(double first, double last, double x0, double x1, double y) {
  std::string svg;
  const double width = std::max(last - first, 1e-9);
  std::vector<Tick> ticks = linear_ticks(first, last, 5);
  std::erase_if(ticks, [](const Tick& tick) { return tick.value != std::floor(tick.value); });
  if (ticks.empty()) ticks.push_back({first, readable(first)});
  for (const Tick& tick : ticks) {
    const double x = x0 + (tick.value - first) / width * (x1 - x0);
    svg += fmt::format("<path class=\"axis\" d=\"M{0:.1f} {1:.1f}v4\"/>", x, y);
    svg += text_at(x, y + 15, "middle", tick.text);
  }
  return svg + text_at((x0 + x1) / 2, y + 30, "middle", "step", "class=\"axis-name\"");
}

std::string open_svg(double width, double height, std::string_view alt) {
  return fmt::format("<svg viewBox=\"0 0 {:g} {:g}\" role=\"img\" aria-label=\"{}\">\n", width,
                     height, escape(alt));
}

}  // namespace switchyard
