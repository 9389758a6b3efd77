// What the experts of a layer have come to stand for: which labels' tokens chose which expert.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report/records.h"

namespace switchyard {

struct Specialisation {
  int64_t labels = 0, experts = 0;
  std::vector<double> label_share;  // [labels] of all choices
  std::vector<double> share;  // [labels, experts] of the expert's choices; NaN: nobody chose it
  std::vector<double> preference;  // share over label_share: 1 is no preference; NaN as share
  double information = 0;          // mutual information of label and expert, nats
  double label_entropy = 0;        // nats: information is at most this

  // Of what there is to know about a token's label, the share that its expert tells; 0 to 1.
  double told() const { return label_entropy > 0 ? information / label_entropy : 0.0; }
  double share_at(int64_t label, int64_t expert) const;
  double preference_at(int64_t label, int64_t expert) const;
  // The label that the expert prefers most; -1 for an expert that nobody chose.
  int64_t favourite(int64_t expert) const;
};

//   load_by_label  [labels][experts], every row as long
Specialisation specialisation_of(const std::vector<std::vector<int64_t>>& load_by_label);

// A line for each layer with counts by label: how much the expert tells of the label, and the
// favourite label of up to 8 experts, the strongest preferences.
std::vector<std::string> describe_specialisation(const EvaluationRecord& record);

}  // namespace switchyard
