#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/chart.h"
#include "report/report_sections.h"
#include "report/svg.h"

namespace switchyard {

namespace {

std::vector<int64_t> resumes(const RunLog& log) {
  std::vector<int64_t> steps;
  for (size_t i = 1; i < log.starts.size(); ++i) steps.push_back(log.starts[i].step);
  return steps;
}

Chart chart_of(const RunLog& log, const std::string& title, const std::string& hint,
               const std::string& y_name) {
  return {
      .title = title, .hint = hint, .y_name = y_name, .step = log.steps, .resumes = resumes(log)};
}

std::string over_steps(const RunLog& log) {
  return fmt::format("mean over {:.0f} steps", smoothing_window(log));
}

// A value of every step, faint, and its smoothed curve.
void add_noisy(const RunLog& log, Chart& chart, const std::string& name,
               const std::vector<double>& values) {
  chart.curves.push_back(
      {.name = name + ", each step", .y = values, .kind = Curve::Kind::kFaint, .colour = 0});
  chart.curves.push_back(
      {.name = name + ", " + over_steps(log), .y = smoothed(values, smoothing_window(log))});
}

std::string loss_chart(const RunLog& log) {
  Chart chart = chart_of(log, "Loss", "Cross-entropy without auxiliary terms; lower is better.",
                         "nats per target token");
  add_noisy(log, chart, "training", log.loss);
  Curve validation{.name = "validation", .kind = Curve::Kind::kDots, .colour = 1};
  for (const EvaluationRecord& evaluation : log.evaluations) {
    validation.step.push_back(evaluation.step);
    validation.y.push_back(evaluation.loss);
  }
  if (!validation.y.empty()) {
    const double entropy = log.evaluations.back().unigram_entropy;
    chart.curves.push_back(validation);
    if (entropy > 0) chart.levels.push_back({entropy, "unigram entropy of the validation targets"});
  }
  return draw(chart);
}

std::string auxiliary_chart(const RunLog& log, const std::string& title, const std::string& hint,
                            const std::vector<double>& values) {
  // All zero: the loss is off.
  if (std::none_of(values.begin(), values.end(),
                   [](double v) { return std::isfinite(v) && v != 0; }))
    return "";
  Chart chart = chart_of(log, title, hint, "added to the loss, all layers");
  chart.log_if_wide = true;
  add_noisy(log, chart, "training", values);
  return draw(chart);
}

std::string by_label(const RunLog& log) {
  if (log.evaluations.empty()) return "";
  const EvaluationRecord& last = log.evaluations.back();
  std::string rows;
  std::vector<LabelRecord> labels = last.labels;
  std::erase_if(labels, [](const LabelRecord& label) { return label.target_tokens == 0; });
  std::stable_sort(labels.begin(), labels.end(), [](const LabelRecord& a, const LabelRecord& b) {
    return a.target_tokens > b.target_tokens;
  });
  constexpr size_t kMostLabels = 40;
  for (size_t i = 0; i < std::min(labels.size(), kMostLabels); ++i) {
    const double share = static_cast<double>(labels[i].target_tokens) /
                         static_cast<double>(std::max<int64_t>(last.target_tokens, 1));
    rows += fmt::format("<tr><td>{}</td><td>{:.3f}</td><td>{}</td><td>{}</td></tr>\n",
                        escape(labels[i].name), labels[i].loss,
                        with_thousands(labels[i].target_tokens), percent(share));
  }
  if (rows.empty()) return "";
  const std::string rest =
      labels.size() > kMostLabels
          ? fmt::format(" The {} largest of {} labels.", kMostLabels, labels.size())
          : std::string();
  return fmt::format(
      "<figure>\n<figcaption><h3>Validation loss by label</h3><p>After step {}, in nats per target "
      "token.{}</p></figcaption>\n<div class=\"table\"><table>\n<thead><tr><th>label</th>"
      "<th>loss</th><th>target tokens</th><th>share</th></tr></thead>\n<tbody>\n{}</tbody></table>"
      "</div>\n</figure>\n",
      last.step, rest, rows);
}

std::vector<double> per_second(const RunLog& log, const std::vector<double>& amount, double unit) {
  std::vector<double> rate(amount.size());
  for (size_t i = 0; i < amount.size(); ++i) {
    rate[i] = log.seconds[i] > 0 ? amount[i] / log.seconds[i] / unit
                                 : std::numeric_limits<double>::quiet_NaN();
  }
  return rate;
}

std::string speed_chart(const RunLog& log) {
  Chart chart = chart_of(log, "Speed",
                         "Real tokens of encoder and decoder, all ranks together; evaluations and "
                         "checkpoints not counted.",
                         "tokens per second");
  chart.from_zero = true;
  add_noisy(log, chart, "tokens/s", per_second(log, log.tokens, 1));
  return draw(chart);
}

std::string flops_chart(const RunLog& log) {
  double greatest = 0;
  for (const double rate : per_second(log, log.flops, 1)) {
    if (std::isfinite(rate)) greatest = std::max(greatest, rate);
  }
  if (greatest == 0) return "";
  const bool tera = greatest >= 2e12;
  const std::string unit = tera ? "TFLOP/s" : "GFLOP/s";
  Chart chart =
      chart_of(log, "Arithmetic", "Floating-point operations that the step carried out.", unit);
  chart.from_zero = true;
  add_noisy(log, chart, unit, per_second(log, log.flops, tera ? 1e12 : 1e9));
  return draw(chart);
}

std::string phase_table(const RunLog& log) {
  if (!log.profile || !(log.profile->step_seconds > 0)) return "";
  const ProfileRecord& profile = *log.profile;
  std::vector<PhaseRecord> phases = profile.phases;
  std::ranges::sort(phases, std::greater(), &PhaseRecord::seconds);
  std::string rows;
  for (const PhaseRecord& phase : phases) {
    if (!(phase.most > 0)) continue;
    rows += fmt::format("<tr><td>{}</td><td>{:.2f}</td><td>{}</td><td>{:.2f} – {:.2f}</td></tr>\n",
                        escape(phase.name), phase.seconds * 1e3,
                        percent(phase.seconds / profile.step_seconds), phase.least * 1e3,
                        phase.most * 1e3);
  }
  return fmt::format(
      "<figure>\n<figcaption><h3>Time by phase</h3><p>Milliseconds a step, mean of {} on {}, with "
      "what stands between steps. Host time; a phase inside another isn&#39;t counted twice.</p>"
      "</figcaption>\n<div class=\"table\"><table>\n<thead><tr><th>phase</th><th>ms</th>"
      "<th>share</th><th>by rank</th></tr></thead>\n<tbody>\n{}</tbody></table></div>\n</figure>\n",
      counted(profile.steps, "step"), counted(profile.ranks, "rank"), rows);
}

}  // namespace

double smoothing_window(const RunLog& log) {
  return std::clamp(std::round(static_cast<double>(log.steps.size()) / 50), 3.0, 1000.0);
}

std::string section(const std::string& id, const std::string& title, const std::string& intro,
                    const std::string& figures) {
  if (figures.empty()) return "";
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n"
      "<p class=\"intro\">{2}</p>\n<div class=\"figures\">\n{3}</div>\n</section>\n",
      id, title, intro, figures);
}

std::string loss_section(const RunLog& log) {
  const std::string figures =
      loss_chart(log) + by_label(log) +
      auxiliary_chart(log, "Load-balance loss",
                      "Pulls the router towards equal loads; least where loads are equal.",
                      log.load_balance) +
      auxiliary_chart(log, "Router z-loss", "Keeps the router's logits small.", log.router_z) +
      auxiliary_chart(log, "Importance loss", "Pulls the experts' summed gate weights together.",
                      log.importance) +
      auxiliary_chart(log, "Load loss", "Pulls the experts' expected loads together.",
                      log.load_loss);
  return section(
      "loss", "Loss",
      "The bar to pass is the unigram entropy: what the best model that knows each "
      "label&#39;s token frequencies, and nothing else, would reach on the same targets.",
      figures);
}

std::string optimisation_section(const RunLog& log) {
  Chart rate = chart_of(log, "Learning rate", "As the schedule gave it.", "learning rate");
  rate.from_zero = true;
  rate.curves.push_back({.name = "learning rate", .y = log.learning_rate});
  Chart norm = chart_of(log, "Gradient norm",
                        "Over all parameters, before clipping; a spike that the loss follows is a "
                        "sign of a learning rate too high.",
                        "L2 norm");
  norm.from_zero = norm.log_if_wide = true;
  add_noisy(log, norm, "norm", log.gradient_norm);
  return section("optimisation", "Steps and speed", "How the weights moved, and how fast.",
                 draw(rate) + draw(norm) + speed_chart(log) + flops_chart(log) + phase_table(log));
}

}  // namespace switchyard
