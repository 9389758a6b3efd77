#include "report/specialisation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard {

static constexpr size_t kExpertsInALine = 8;

double Specialisation::share_at(int64_t label, int64_t expert) const {
  return share[static_cast<size_t>(label * experts + expert)];
}

double Specialisation::preference_at(int64_t label, int64_t expert) const {
  return preference[static_cast<size_t>(label * experts + expert)];
}

int64_t Specialisation::favourite(int64_t expert) const {
  int64_t best = -1;
  for (int64_t label = 0; label < labels; ++label) {
    const double here = preference_at(label, expert);
    if (!std::isnan(here) && (best < 0 || here > preference_at(best, expert))) best = label;
  }
  return best;
}

Specialisation specialisation_of(const std::vector<std::vector<int64_t>>& load_by_label) {
  Specialisation result;
  result.labels = static_cast<int64_t>(load_by_label.size());
  result.experts = load_by_label.empty() ? 0 : static_cast<int64_t>(load_by_label[0].size());
  const auto experts = static_cast<size_t>(result.experts);
  std::vector<double> of_label(load_by_label.size()), of_expert(experts);
  double all = 0;
  for (size_t l = 0; l < load_by_label.size(); ++l) {
    for (size_t e = 0; e < experts; ++e) {
      const auto count = static_cast<double>(load_by_label[l][e]);
      of_label[l] += count;
      of_expert[e] += count;
      all += count;
    }
  }
  for (size_t l = 0; l < load_by_label.size(); ++l) {
    const double label_share = all > 0 ? of_label[l] / all : 0.0;
    result.label_share.push_back(label_share);
    if (label_share > 0) result.label_entropy -= label_share * std::log(label_share);
    for (size_t e = 0; e < experts; ++e) {
      const auto count = static_cast<double>(load_by_label[l][e]);
      const bool known = of_expert[e] > 0 && label_share > 0;
      const double share =
          of_expert[e] > 0 ? count / of_expert[e] : std::numeric_limits<double>::quiet_NaN();
      const double preference =
          known ? share / label_share : std::numeric_limits<double>::quiet_NaN();
      result.share.push_back(share);
      result.preference.push_back(preference);
      if (count > 0) result.information += count / all * std::log(preference);
    }
  }
  return result;
}

static std::string favourites(const EvaluationRecord& record, const Specialisation& found) {
  std::vector<int64_t> experts;
  for (int64_t e = 0; e < found.experts; ++e) {
    if (found.favourite(e) >= 0) experts.push_back(e);
  }
  const auto strength = [&](int64_t e) { return found.preference_at(found.favourite(e), e); };
  if (experts.size() > kExpertsInALine) {
    std::stable_sort(experts.begin(), experts.end(),
                     [&](int64_t a, int64_t b) { return strength(a) > strength(b); });
    experts.resize(kExpertsInALine);
    std::sort(experts.begin(), experts.end());
  }
  std::string line;
  for (int64_t e : experts) {
    const std::string& label = record.labels[static_cast<size_t>(found.favourite(e))].name;
    line += fmt::format("{}{} {} x{:.1f}", line.empty() ? "" : ", ", e, label, strength(e));
  }
  return line;
}

std::vector<std::string> describe_specialisation(const EvaluationRecord& record) {
  std::vector<std::string> lines;
  for (const LayerRecord& layer : record.layers) {
    if (layer.load_by_label.empty()) continue;
    const Specialisation found = specialisation_of(layer.load_by_label);
    lines.push_back(
        fmt::format("{}: {:.0f} %; {}", layer.name, 100 * found.told(), favourites(record, found)));
  }
  return lines;
}

}  // namespace switchyard
