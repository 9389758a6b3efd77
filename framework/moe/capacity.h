// How many of a routing group's tokens an expert takes. Who is kept is decided by the operation
// plan_capacity (ops/routing.h).
#pragma once

#include <cstdint>
#include <optional>

namespace switchyard {

struct CapacityRule {
  // Who is kept where there is more demand than room; first choices always before second ones.
  //   kPosition     the first tokens of the routing group
  //   kProbability  those of the highest gate weight, ties by position; looks at later tokens
  //   kRandom       by a number of each token; in evaluation by position
  enum class Priority : uint8_t { kPosition, kProbability, kRandom };
  // What becomes of a choice without room.
  //   kDrop      nothing: the layer adds nothing to the token
  //   kReroute   the token goes to the next expert by score that has room
  //   kDropless  there is always room: no choice of a token is dropped
  enum class Overflow : uint8_t { kDrop, kReroute, kDropless };

  double train_factor = 1.25, eval_factor = 2.0;
  int64_t min_tokens = 4;
  bool round_up = true;           // ceil; false: floor, as Mesh-TensorFlow
  std::optional<int64_t> tokens;  // given: the capacity, whatever the rest says; 0 is allowed
  bool padding_takes_capacity = false;
  Priority priority = Priority::kPosition;
  Overflow overflow = Overflow::kDrop;
};

// C = max(min_tokens, round(factor * K * group_tokens / E)) (Fedus 2021, eq. 3, per routing group).
//   group_tokens  sequences of the group times the configured length, padding included
int64_t capacity_of_group(const CapacityRule& rule, bool training, int64_t choices,
                          int64_t group_tokens, int64_t experts);

}  // namespace switchyard
