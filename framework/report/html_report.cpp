#include "report/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "base/errors.h"
#include "base/version.h"
#include "report/chart.h"
#include "report/report_sections.h"
#include "report/specialisation.h"
#include "report/svg.h"

namespace switchyard {

namespace {

constexpr size_t kMostConfigBytes = 80'000;  // escaped at most six times as many
// Beyond these the reader is told to look.
constexpr double kMuchDropped = 0.05, kStarving = 0.1, kLossRise = 1.01;

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::isfinite(value) ? value : 0.0;
  return sum;
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<double> last_tenth(const std::vector<double>& values) {
  const size_t count = (values.size() + 9) / 10;
  return {values.end() - static_cast<ptrdiff_t>(count), values.end()};
}

double mean(const std::vector<double>& values) {
  return sum_of(values) / static_cast<double>(std::max<size_t>(values.size(), 1));
}

std::vector<double> rates(const std::vector<double>& amounts, const std::vector<double>& seconds) {
  std::vector<double> rates;
  for (size_t i = 0; i < std::min(amounts.size(), seconds.size()); ++i) {
    if (seconds[i] > 0) rates.push_back(amounts[i] / seconds[i]);
  }
  return rates;
}

double seconds_of(const RunLog& log) {
  double seconds = sum_of(log.seconds);
  for (const EvaluationRecord& evaluation : log.evaluations) {
    if (std::isfinite(evaluation.seconds)) seconds += evaluation.seconds;
  }
  return seconds;
}

std::string how_far(const RunLog& log) {
  if (log.finished()) {
    return fmt::format("<span class=\"state good\">Finished</span>: {}",
                       counted(log.last_step(), "step"));
  }
  if (log.starts.empty()) {
    return fmt::format("<span class=\"state\">At step {}</span>", with_thousands(log.last_step()));
  }
  return fmt::format("<span class=\"state bad\">Stopped</span> at step {} of {}",
                     with_thousands(log.last_step()), with_thousands(log.planned_steps()));
}

std::string against_entropy(const EvaluationRecord& last) {
  if (!(last.unigram_entropy > 0)) {
    return fmt::format(" Validation loss {:.3f} nats per target token.", last.loss);
  }
  const double better = last.unigram_entropy - last.loss;
  return fmt::format(
      " Validation loss {:.3f} nats per target token, <span class=\"state {}\">{:.3f} {}</span> "
      "the "
      "unigram entropy of {:.3f}: {}.",
      last.loss, better > 0 ? "good" : "bad", std::abs(better), better > 0 ? "below" : "above",
      last.unigram_entropy,
      better > 0 ? "the model knows more than how frequent each token is"
                 : "so far, knowing how frequent each token is would do better");
}

std::string verdict(const RunLog& log) {
  std::string text = how_far(log);
  text += fmt::format(" in {} of computing", duration(seconds_of(log)));
  if (!log.starts.empty() && log.starts.back().ranks > 0) {
    text += fmt::format(" on {}", counted(log.starts.back().ranks, "rank"));
  }
  if (log.times_resumed() > 0) text += ", resumed " + counted(log.times_resumed(), "time");
  text += ".";
  text += log.evaluations.empty() ? " No evaluation yet." : against_entropy(log.evaluations.back());
  return "<p class=\"verdict\">" + text + "</p>\n";
}

std::string tile(const std::string& name, const std::string& value, const std::string& more) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>\n", escape(name), escape(value),
                     escape(more));
}

std::string expert_tiles(const RunLog& log) {
  std::string html = tile("Dropped", percent(mean(last_tenth(log.dropped_share))),
                          "of choices, last tenth of the steps");
  double most = 0;
  for (const LayerLog& layer : log.layers) {
    for (const double ratio : recent_load_ratio(layer)) {
      if (std::isfinite(ratio)) most = std::max(most, ratio);
    }
  }
  html += tile("Busiest expert", fmt::format("{:.2f}x", most), "an equal share, last tenth");
  const EvaluationRecord* labelled = last_labelled_evaluation(log);
  if (!labelled || labelled->labels.size() < 2) return html;
  double told = 0;
  for (const LayerRecord& layer : labelled->layers) {
    told = std::max(told, specialisation_of(layer.load_by_label).told());
  }
  return html + tile("Told by the expert", fmt::format("{:.0f} %", 100 * told),
                     "of a token's label, most telling layer");
}

std::string tiles(const RunLog& log) {
  std::string html = "<dl class=\"tiles\">\n";
  if (!log.evaluations.empty()) {
    const EvaluationRecord& last = log.evaluations.back();
    html += tile("Validation loss", fmt::format("{:.3f}", last.loss),
                 fmt::format("unigram entropy {:.3f}", last.unigram_entropy));
  }
  html +=
      tile("Training loss", fmt::format("{:.3f}", smoothed(log.loss, smoothing_window(log)).back()),
           fmt::format("mean over {:.0f} steps", smoothing_window(log)));
  html += tile("Speed", readable(median(rates(log.tokens, log.seconds)), 3),
               "tokens per second, median");
  const double flops = median(rates(log.flops, log.seconds));
  if (std::isfinite(flops))
    html += tile("Arithmetic", readable(flops, 3), "floating-point operations per second, median");
  html += tile("Tokens", readable(sum_of(log.tokens), 3), "trained on");
  if (!log.starts.empty() && log.starts.back().parameters > 0) {
    html += tile("Parameters", readable(static_cast<double>(log.starts.back().parameters), 3),
                 "of the whole model");
  }
  if (log.experts() > 0) html += expert_tiles(log);
  return html + "</dl>\n";
}

std::string starving_note(const RunLog& log) {
  std::vector<std::string> names;
  for (const LayerLog& layer : log.layers) {
    const std::vector<double> ratios = recent_load_ratio(layer);
    for (size_t e = 0; e < ratios.size(); ++e) {
      if (ratios[e] < kStarving) names.push_back(fmt::format("{} of {}", e, layer.name));
    }
  }
  if (names.empty()) return "";
  std::string list;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 6); ++i) {
    list += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > 6) list += fmt::format(" and {} more", names.size() - 6);
  return fmt::format(
      "Experts with less than a tenth of an equal share at the end: {}. A larger "
      "moe.losses.load_balance.coef or more jitter wakes them.",
      list);
}

// What a reader should not overlook.
std::vector<std::string> notes(const RunLog& log) {
  std::vector<std::string> found;
  if (!log.skipped.empty()) {
    found.push_back(
        fmt::format("{} left out because the gradient was not finite, first at step {}.",
                    counted(ssize(log.skipped), "update"), log.skipped.front()));
  }
  const double dropped = mean(last_tenth(log.dropped_share));
  if (dropped > kMuchDropped) {
    found.push_back(
        fmt::format("{} of the choices were dropped at the end: raise "
                    "moe.capacity.train_factor or moe.losses.load_balance.coef.",
                    percent(dropped)));
  }
  if (const std::string starving = starving_note(log); !starving.empty()) found.push_back(starving);
  const auto lower = [](const EvaluationRecord& a, const EvaluationRecord& b) {
    return a.loss < b.loss;
  };
  const auto best = std::min_element(log.evaluations.begin(), log.evaluations.end(), lower);
  if (best != log.evaluations.end() && log.evaluations.back().loss > kLossRise * best->loss) {
    found.push_back(fmt::format("The validation loss was lower before: {:.3f} after step {}.",
                                best->loss, best->step));
  }
  if (log.unreadable_lines > 0) {
    found.push_back(fmt::format("{} of metrics.jsonl could not be read and left out.",
                                counted(log.unreadable_lines, "line")));
  }
  return found;
}

std::string notes_html(const RunLog& log) {
  std::string items;
  for (const std::string& note : notes(log)) items += "<li>" + escape(note) + "</li>\n";
  if (items.empty()) return "";
  return "<div class=\"notes\"><strong>Worth a look</strong>\n<ul>\n" + items + "</ul></div>\n";
}

void write_whole(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path partial = path.string() + ".partial";
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  std::error_code error;
  if (file) {
    file.close();
    std::filesystem::rename(partial, path, error);
    if (!error) return;
  }
  std::error_code ignored;
  std::filesystem::remove(partial, ignored);
  throw SpaceError("cannot write the report", path.string(),
                   "make the folder writable or free some disk space, then: switchyard report " +
                       path.parent_path().string());
}

}  // namespace

std::string verdict_section(const RunLog& log) {
  return "<p class=\"kicker\">Switchyard run report</p>\n<h1>" + escape(log.name) + "</h1>\n" +
         verdict(log);
}

std::string config_section(const RunLog& log) {
  if (log.config_text.empty()) return "";
  size_t end = std::min(log.config_text.size(), kMostConfigBytes);
  if (end < log.config_text.size()) end = log.config_text.rfind('\n', end);
  std::string text = log.config_text.substr(0, end == std::string::npos ? 0 : end);
  if (text.size() < log.config_text.size()) text += "\n... the rest is in config.yaml\n";
  return "<section id=\"config\" aria-labelledby=\"config-title\">\n<h2 id=\"config-title\">Config"
         "</h2>\n<p class=\"intro\">As the run resolved it; valid input as it stands.</p>\n<pre "
         "tabindex=\"0\">" +
         escape(text) + "</pre>\n</section>\n";
}

std::string html_report(const RunLog& log) {
  struct Part {
    const char *id, *name;
    std::string html;
  };
  const std::vector<Part> parts = {
      {"loss", "Loss", loss_section(log)},
      {"optimisation", "Steps and speed", optimisation_section(log)},
      {"experts", "Experts", expert_section(log)},
      {"specialisation", "Specialisation", specialisation_section(log)},
      {"config", "Config", config_section(log)}};
  std::string links, body;
  for (const Part& part : parts) {
    if (part.html.empty()) continue;
    links += fmt::format("<a href=\"#{}\">{}</a>\n", part.id, part.name);
    body += part.html;
  }
  // The policy forbids the browser whatever is not in this file. The page is XML as well as HTML.
  return "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
         "<meta charset=\"utf-8\"/>\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
         "'unsafe-inline'\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>" +
         escape(log.name) + " – Switchyard run report</title>\n<style>\n" + style_sheet() +
         "</style>\n</head>\n<body>\n<header>\n" + verdict_section(log) +
         "<nav aria-label=\"sections\">\n" + links + "</nav>\n" + tiles(log) + notes_html(log) +
         "</header>\n<main>\n" + body + "</main>\n<footer><p>" +
         fmt::format("Made by switchyard {} from metrics.jsonl: {}, {}.", kVersion,
                     counted(static_cast<int64_t>(log.steps.size()), "step"),
                     counted(static_cast<int64_t>(log.evaluations.size()), "evaluation")) +
         "</p></footer>\n</body>\n</html>\n";
}

std::filesystem::path write_html_report(const std::filesystem::path& run_directory) {
  const std::filesystem::path path = run_directory / "report.html";
  write_whole(path, html_report(read_run_log(run_directory)));
  return path;
}

}  // namespace switchyard
