// What one MoE layer did on this rank since the counters were cleared. All fields are sums, so that
// ranks and micro-batches add up; ratios are made when they are reported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

struct MoeObservation {
  std::vector<double> chosen;             // [E] choices before drops
  std::vector<double> kept;               // [E] after
  std::vector<double> probability;        // [E] sum over tokens
  std::vector<double> dropped_by_choice;  // [K]
  // [labels, E]: choices before drops by the label of the token's sequence; empty unless clear()
  // was told how many labels there are.
  std::vector<double> chosen_by_label;
  // [tokens, E]: the same by token id.
  std::vector<double> chosen_by_token;
  double tokens = 0;                   // real ones
  double weight = 0, weight_lost = 0;  // gate weight of all choices, and of the dropped ones
  double entropy = 0;                  // sum over tokens, nats
  double top_probability = 0;          // sum over tokens
  // With coefficients; 1 / groups of the global batch is in. The first is 0 with scope `global`:
  // see AuxiliaryLosses::load_balance_of.
  double load_balance = 0, router_z = 0, importance = 0, load = 0;
  double rows_computed = 0;              // by this rank's experts
  double rows_sent = 0, bytes_sent = 0;  // to other ranks, forward, one direction
  double bytes_sent_again = 0;           // of them by the backward pass of rounds

  MoeObservation() = default;
  MoeObservation(int64_t experts, int64_t choices)
      : chosen(static_cast<size_t>(experts)),
        kept(static_cast<size_t>(experts)),
        probability(static_cast<size_t>(experts)),
        dropped_by_choice(static_cast<size_t>(choices)) {}

  // All fields in a row, to be summed over ranks, and back.
  std::vector<double> pack() const;
  void append_to(std::vector<double>& packed) const;
  void unpack(std::span<const double> packed);
  // Back to zero.
  //   labels, token_ids  to count choices by, which costs reading every choice back; 0: don't
  void clear(int64_t labels = 0, int64_t token_ids = 0);

 private:
  template <typename Self, typename Visit>
  static void each(Self& self, Visit visit);
};

}  // namespace switchyard
