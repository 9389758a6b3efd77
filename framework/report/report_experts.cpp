#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "report/chart.h"
#include "report/heat_map.h"
#include "report/report_sections.h"
#include "report/specialisation.h"
#include "report/svg.h"

namespace switchyard {

namespace {

constexpr size_t kMostLayerCurves = 8, kMostTimeMaps = 24, kMostLabelMaps = 12;
constexpr size_t kTokensOfAnExpert = 10;
constexpr int64_t kMostColumns = 256, kMostLabels = 24, kMostExperts = 64, kExpertsOfATable = 16;
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// "encoder.block.1.moe" -> "encoder 1"
std::string short_name(std::string name) {
  const auto cut = [&](const std::string& part, const std::string& by) {
    const size_t at = name.find(part);
    if (at != std::string::npos) name.replace(at, part.size(), by);
  };
  cut(".block.", " ");
  cut(".moe", "");
  return name;
}

std::vector<std::string> numbered(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

std::vector<double> over_mean(const double* begin, size_t count) {
  const double sum = std::accumulate(begin, begin + count, 0.0);
  std::vector<double> ratios(count, kUnknown);
  if (sum > 0) {
    for (size_t i = 0; i < count; ++i) ratios[i] = begin[i] * static_cast<double>(count) / sum;
  }
  return ratios;
}

double greatest_of(const std::vector<double>& values) {
  double greatest = 0;
  for (const double value : values) {
    if (std::isfinite(value)) greatest = std::max(greatest, value);
  }
  return greatest;
}

// Wide enough for what is usual; what is beyond has the strongest colour too.
double load_scale(const std::vector<double>& ratios) {
  return std::clamp(std::ceil(greatest_of(ratios) * 2) / 2, 2.0, 4.0);
}

std::string layer_by_expert(const RunLog& log) {
  const int64_t experts = log.experts();
  const int64_t merged = (experts + kMostColumns - 1) / kMostColumns;
  HeatMap map{.title = "Load of every expert",
              .hint =
                  "Tokens that chose the expert, over an equal share of them, in the last tenth "
                  "of the steps, before drops. 1 is fair, 0 is dead.",
              .row_name = "layer",
              .column_name = "expert"};
  if (merged > 1) map.hint += fmt::format(" Each cell is the busiest of {} experts.", merged);
  for (int64_t e = 0; e < experts; e += merged) map.columns.push_back(std::to_string(e));
  for (const LayerLog& layer : log.layers) {
    std::vector<double> ratios = recent_load_ratio(layer);
    if (ratios.empty()) continue;
    // A pyramid's layers differ in their number of experts.
    ratios.resize(static_cast<size_t>(experts), std::numeric_limits<double>::quiet_NaN());
    map.rows.push_back(short_name(layer.name));
    for (int64_t e = 0; e < experts; e += merged) {
      const auto begin = ratios.begin() + e, end = ratios.begin() + std::min(e + merged, experts);
      map.values.push_back(*std::max_element(begin, end));
    }
  }
  map.most = load_scale(map.values);
  return draw(map);
}

std::string expert_by_time(const RunLog& log, const LayerLog& layer) {
  const size_t experts = layer.recent_load.size();
  const auto spans = static_cast<size_t>(log.spans());
  HeatMap map{.title = "Load over time: " + short_name(layer.name),
              .hint = "Tokens that chose the expert, over an equal share of them.",
              .row_name = "expert",
              .rows = numbered(static_cast<int64_t>(experts)),
              .values = std::vector<double>(experts * spans)};
  for (size_t span = 0; span <= spans; ++span) {
    map.span_begins.push_back(log.span_begin(static_cast<int64_t>(span)));
  }
  for (size_t span = 0; span < spans; ++span) {
    const std::vector<double> ratios = over_mean(&layer.load[span * experts], experts);
    for (size_t e = 0; e < experts; ++e) map.values[e * spans + span] = ratios[e];
  }
  map.most = load_scale(map.values);
  return draw(map);
}

// The layers to draw where there are too many: those that `weight` is greatest of, in their order.
template <typename Weight>
std::vector<size_t> heaviest(size_t count, size_t most, Weight weight) {
  std::vector<size_t> chosen(count);
  std::iota(chosen.begin(), chosen.end(), size_t{0});
  if (count <= most) return chosen;
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](size_t a, size_t b) { return weight(a) > weight(b); });
  chosen.resize(most);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// Expert x time, of the layers with the least even loads.
std::string time_maps(const RunLog& log) {
  const auto unevenness = [&](size_t l) { return greatest_of(recent_load_ratio(log.layers[l])); };
  // Their cells are what the page has most of.
  const auto cells = static_cast<size_t>(std::max<int64_t>(log.experts() * log.spans(), 1));
  const size_t most = std::clamp(size_t{40'000} / cells, size_t{1}, kMostTimeMaps);
  std::string html;
  for (const size_t l : heaviest(log.layers.size(), most, unevenness)) {
    if (!log.layers[l].recent_load.empty()) html += expert_by_time(log, log.layers[l]);
  }
  if (log.layers.size() > most) {
    html += fmt::format("<p class=\"wide\">The {} least even of {} layers.</p>\n", most,
                        log.layers.size());
  }
  return html;
}

// A curve for each layer or, of many, the highest, the middle and the lowest value of each step.
void add_layers(const RunLog& log, Chart& chart, std::vector<float> LayerLog::*values) {
  std::vector<std::vector<double>> curves;
  for (const LayerLog& layer : log.layers) {
    const std::vector<float>& each = layer.*values;
    curves.push_back(smoothed({each.begin(), each.end()}, smoothing_window(log)));
  }
  if (curves.size() <= kMostLayerCurves) {
    for (size_t l = 0; l < curves.size(); ++l) {
      chart.curves.push_back({.name = short_name(log.layers[l].name),
                              .y = curves[l],
                              .colour = static_cast<int>(l % kMostLayerCurves)});
    }
    return;
  }
  std::vector<double> highest, middle, lowest;
  for (size_t i = 0; i < log.steps.size(); ++i) {
    std::vector<double> here;
    for (const std::vector<double>& curve : curves) {
      if (i < curve.size() && std::isfinite(curve[i])) here.push_back(curve[i]);
    }
    std::sort(here.begin(), here.end());
    highest.push_back(here.empty() ? kUnknown : here.back());
    middle.push_back(here.empty() ? kUnknown : here[here.size() / 2]);
    lowest.push_back(here.empty() ? kUnknown : here.front());
  }
  chart.curves.push_back({.name = "highest layer", .y = highest, .colour = 1});
  chart.curves.push_back({.name = "median layer", .y = middle, .colour = 0});
  chart.curves.push_back({.name = "lowest layer", .y = lowest, .colour = 2});
}

bool any_positive(const RunLog& log, std::vector<float> LayerLog::*values) {
  return std::any_of(log.layers.begin(), log.layers.end(), [&](const LayerLog& layer) {
    const std::vector<float>& each = layer.*values;
    return std::any_of(each.begin(), each.end(), [](float value) { return value > 0; });
  });
}

std::string over_time(const RunLog& log, const std::string& title, const std::string& hint,
                      const std::string& y_name, std::vector<float> LayerLog::*values) {
  Chart chart{.title = title,
              .hint = fmt::format("{} Means over {:.0f} steps.", hint, smoothing_window(log)),
              .y_name = y_name,
              .step = log.steps,
              .from_zero = true,
              .as_percent = y_name == "%"};
  add_layers(log, chart, values);
  if (values == &LayerLog::router_entropy) {
    const auto as_many = [&](const LayerLog& layer) {
      return static_cast<int64_t>(layer.recent_load.size()) == log.experts();
    };
    if (std::ranges::all_of(log.layers, as_many)) {
      chart.levels.push_back(
          {std::log(static_cast<double>(log.experts())), "all experts as likely"});
    }
  }
  return draw(chart);
}

// What can be drawn of a layer's counts: labels beyond the most frequent ones as one.
struct LabelCounts {
  std::vector<std::string> names;
  std::vector<std::vector<int64_t>> counts;
};

LabelCounts most_frequent(const EvaluationRecord& record, const LayerRecord& layer) {
  std::vector<int64_t> tokens;
  for (const auto& row : layer.load_by_label) {
    tokens.push_back(std::accumulate(row.begin(), row.end(), int64_t{0}));
  }
  const std::vector<size_t> shown =
      heaviest(tokens.size(), kMostLabels, [&](size_t l) { return tokens[l]; });
  LabelCounts result;
  for (const size_t l : shown) {
    result.names.push_back(record.labels[l].name);
    result.counts.push_back(layer.load_by_label[l]);
  }
  if (shown.size() == tokens.size()) return result;
  std::vector<int64_t> rest(layer.load_by_label[0].size());
  for (size_t l = 0; l < tokens.size(); ++l) {
    if (std::binary_search(shown.begin(), shown.end(), l)) continue;
    for (size_t e = 0; e < rest.size(); ++e) rest[e] += layer.load_by_label[l][e];
  }
  result.names.push_back(fmt::format("{} others", tokens.size() - shown.size()));
  result.counts.push_back(rest);
  return result;
}

std::string label_maps(const EvaluationRecord& record, const LayerRecord& layer) {
  const LabelCounts labels = most_frequent(record, layer);
  const Specialisation found = specialisation_of(labels.counts);
  // How much of the information an expert carries.
  const auto information = [&](size_t e) {
    double sum = 0;
    for (size_t l = 0; l < labels.counts.size(); ++l) {
      const auto count = static_cast<double>(labels.counts[l][e]);
      if (count == 0) continue;
      sum +=
          count * std::log(found.preference_at(static_cast<int64_t>(l), static_cast<int64_t>(e)));
    }
    return sum;
  };
  const std::vector<size_t> experts =
      heaviest(static_cast<size_t>(found.experts), kMostExperts, information);
  HeatMap share{
      .title = short_name(layer.name) + ": what an expert is made of",
      .hint = "Share of the expert's tokens by label, in percent: a column adds up to 100.",
      .row_name = "label",
      .column_name = "expert",
      .rows = labels.names,
      .numbers = HeatMap::Numbers::kPercent};
  HeatMap times = share;
  times.title = short_name(layer.name) + ": what an expert prefers";
  times.hint = fmt::format(
      "The same over the label's share of all tokens: 1 is no preference. The expert tells {:.0f} "
      "% "
      "of the label ({:.2f} of {:.2f} nats).",
      100 * found.told(), found.information, found.label_entropy);
  times.numbers = HeatMap::Numbers::kTimes;
  if (experts.size() < static_cast<size_t>(found.experts)) {
    share.hint += fmt::format(" The {} most telling of {} experts.", experts.size(), found.experts);
  }
  for (const size_t e : experts) share.columns.push_back(std::to_string(e));
  times.columns = share.columns;
  for (int64_t l = 0; l < found.labels; ++l) {
    for (const size_t e : experts) {
      share.values.push_back(found.share_at(l, static_cast<int64_t>(e)));
      times.values.push_back(found.preference_at(l, static_cast<int64_t>(e)));
    }
  }
  share.most = std::max(std::ceil(greatest_of(share.values) * 10) / 10, 0.1);
  times.most = std::clamp(std::ceil(greatest_of(times.values)), 2.0, 10.0);
  return draw(share) + draw(times);
}

std::string favourite_of(const EvaluationRecord& record, const Specialisation& found, int64_t e) {
  const int64_t label = found.favourite(e);
  if (label < 0) return "–";
  return fmt::format("{} <small>{:.1f}x</small>",
                     escape(record.labels[static_cast<size_t>(label)].name),
                     found.preference_at(label, e));
}

// A row for each layer: what its expert tells of a label and, where they fit, every expert's
// favourite.
std::string favourites_table(const EvaluationRecord& record) {
  int64_t experts = 0;
  for (const LayerRecord& layer : record.layers) {
    if (layer.load_by_label.empty()) continue;
    experts = std::max(experts, static_cast<int64_t>(layer.load_by_label[0].size()));
  }
  const int64_t columns = experts <= kExpertsOfATable ? experts : 0;
  std::string head = "<tr><th>layer</th><th>told</th>", rows;
  for (int64_t e = 0; e < columns; ++e) head += fmt::format("<th>expert {}</th>", e);
  for (const LayerRecord& layer : record.layers) {
    if (layer.load_by_label.empty()) continue;
    const Specialisation found = specialisation_of(layer.load_by_label);
    rows += fmt::format("<tr><td>{}</td><td>{:.0f} %</td>", escape(short_name(layer.name)),
                        100 * found.told());
    for (int64_t e = 0; e < columns; ++e) {
      rows += "<td>" + (e < found.experts ? favourite_of(record, found, e) : "") + "</td>";
    }
    rows += "</tr>\n";
  }
  return fmt::format(
      "<figure class=\"wide\">\n<figcaption><h3>Favourite labels</h3><p>The label that an expert "
      "takes most beyond its share, and how many times its share; told: of what there is to know "
      "about a token&#39;s label, the share that its expert tells (mutual information over the "
      "label&#39;s entropy).</p></figcaption>\n<div class=\"table\"><table>\n<thead>{}</tr></thead>"
      "\n<tbody>\n{}</tbody></table></div>\n</figure>\n",
      head, rows);
}

// A row for each expert: the tokens that tell most of it.
std::string tokens_table(const RoutingTrace& trace, const RoutingTrace::Layer& layer) {
  std::string rows;
  const int64_t experts = std::min<int64_t>(layer.experts, kMostExperts);
  for (int64_t e = 0; e < experts; ++e) {
    std::string tokens;
    for (const auto& token : trace.telling_tokens(layer, e, kTokensOfAnExpert)) {
      tokens += fmt::format("{}{} <small>{:.1f}x</small>", tokens.empty() ? "" : ", ",
                            escape(trace.name_of(token.token)), token.preference);
    }
    rows += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", e, tokens);
  }
  return fmt::format(
      "<figure class=\"wide\">\n<figcaption><h3>{}: tokens</h3><p>The tokens that tell most of an "
      "expert, and how many times as often it takes them as all do.{}</p></figcaption>\n<div "
      "class=\"table\"><table>\n<thead><tr><th>expert</th><th>tokens</th></tr></thead>\n"
      "<tbody>\n{}</tbody></table></div>\n</figure>\n",
      escape(short_name(layer.name)),
      experts < layer.experts ? fmt::format(" The first {} of {}.", experts, layer.experts) : "",
      rows);
}

}  // namespace

std::vector<double> recent_load_ratio(const LayerLog& layer) {
  return over_mean(layer.recent_load.data(), layer.recent_load.size());
}

const EvaluationRecord* last_labelled_evaluation(const RunLog& log) {
  for (auto it = log.evaluations.rbegin(); it != log.evaluations.rend(); ++it) {
    for (const LayerRecord& layer : it->layers) {
      if (!layer.load_by_label.empty()) return &*it;
    }
  }
  return nullptr;
}

std::string expert_section(const RunLog& log) {
  if (log.experts() == 0) return "";
  std::string figures = layer_by_expert(log);
  figures += over_time(log, "Router entropy",
                       "Of the probabilities of a token, mean over tokens: near 0 the router is "
                       "sure, at the dotted line it has no opinion.",
                       "nats", &LayerLog::router_entropy);
  std::string quiet;
  if (any_positive(log, &LayerLog::dropped_share)) {
    figures += over_time(log, "Share dropped",
                         "Choices that found no room at their expert; such a token passes the "
                         "layer by its residual path alone.",
                         "%", &LayerLog::dropped_share);
  } else {
    quiet += " No token was dropped.";
  }
  if (any_positive(log, &LayerLog::dead_experts)) {
    figures += over_time(log, "Dead experts", "Experts that no token of a step chose.", "experts",
                         &LayerLog::dead_experts);
  } else {
    quiet += " In every step every expert had at least one token.";
  }
  return section("experts", "Experts",
                 "How the routers share out tokens. An even load uses all experts; some unevenness "
                 "is what specialisation looks like." +
                     quiet,
                 figures + time_maps(log));
}

static std::string label_figures(const EvaluationRecord* record) {
  if (!record || record->labels.size() < 2) return "";
  std::vector<const LayerRecord*> layers;
  for (const LayerRecord& layer : record->layers) {
    if (!layer.load_by_label.empty()) layers.push_back(&layer);
  }
  std::string figures = favourites_table(*record);
  const auto told = [&](size_t l) { return specialisation_of(layers[l]->load_by_label).told(); };
  for (const size_t l : heaviest(layers.size(), kMostLabelMaps, told)) {
    figures += label_maps(*record, *layers[l]);
  }
  if (layers.size() > kMostLabelMaps) {
    figures += fmt::format("<p class=\"wide\">The {} most telling of {} layers.</p>\n",
                           kMostLabelMaps, layers.size());
  }
  return figures;
}

std::string specialisation_section(const RunLog& log) {
  const EvaluationRecord* record = last_labelled_evaluation(log);
  std::string figures = label_figures(record);
  if (log.routing) {
    const auto& layers = log.routing->layers;
    for (size_t l = 0; l < std::min(layers.size(), kMostLabelMaps); ++l) {
      figures += tokens_table(*log.routing, layers[l]);
    }
  }
  if (figures.empty()) return "";
  return section(
      "specialisation", "What each expert specialises in",
      fmt::format("Choices of the validation tokens after step {}, before drops, by the "
                  "label of the document that a token comes from. Nobody told the router "
                  "about labels.",
                  record ? record->step : log.routing->step),
      figures);
}

}  // namespace switchyard
