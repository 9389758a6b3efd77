#include "moe/observation.h"

#include "base/check.h"

namespace switchyard {

template <typename Self, typename Visit>
void MoeObservation::each(Self& self, Visit visit) {
  for (auto* list : {&self.chosen, &self.kept, &self.probability, &self.dropped_by_choice,
                     &self.chosen_by_label, &self.chosen_by_token}) {
    for (auto& value : *list) visit(value);
  }
  for (auto* value :
       {&self.tokens, &self.weight, &self.weight_lost, &self.entropy, &self.top_probability,
        &self.load_balance, &self.router_z, &self.importance, &self.load, &self.rows_computed,
        &self.rows_sent, &self.bytes_sent, &self.bytes_sent_again}) {
    visit(*value);
  }
}

std::vector<double> MoeObservation::pack() const {
  std::vector<double> packed;
  append_to(packed);
  return packed;
}

void MoeObservation::append_to(std::vector<double>& packed) const {
  each(*this, [&](double value) { packed.push_back(value); });
}

void MoeObservation::unpack(std::span<const double> packed) {
  size_t next = 0;
  each(*this, [&](double& value) {
    SWITCHYARD_CHECK(next < packed.size(), packed.size(), " packed numbers");
    value = packed[next++];
  });
}

void MoeObservation::clear(int64_t labels, int64_t token_ids) {
  chosen_by_label.resize(static_cast<size_t>(labels) * chosen.size());
  chosen_by_token.resize(static_cast<size_t>(token_ids) * chosen.size());
  each(*this, [](double& value) { value = 0; });
}

}  // namespace switchyard
