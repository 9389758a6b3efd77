// Gradients against central differences in float64, on one rank or on several that compute one
// objective together.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "support/op_case.h"

namespace switchyard::test {

// A tensor of the whole job, of which this rank holds all elements, some, or none.
struct Differentiated {
  std::string name;
  int64_t elements = 0;                    // of all ranks together, copies counted once
  std::function<double*(int64_t)> value;   // null where this rank doesn't hold the element
  std::function<double(int64_t)> written;  // what backward wrote, where value() isn't null
  std::function<void()> changed = [] {};   // called when a value was changed
};

// x, which this rank alone holds, and a copy of its gradient as it stands now.
inline Differentiated differentiated(const std::string& name, TensorView x, TensorView dx) {
  const double* from = dx.data<double>();
  const Numbers gradient(from, from + dx.elements());
  double* value = x.data<double>();
  return {.name = name,
          .elements = x.elements(),
          .value = [value](int64_t i) { return value + i; },
          .written = [gradient](int64_t i) { return gradient[static_cast<size_t>(i)]; }};
}

// Rows [begin, end) of a tensor of `rows` rows, all other rows of which stand on other ranks.
inline Differentiated differentiated_rows(const std::string& name, int64_t rows, int64_t begin,
                                          TensorView x, TensorView dx) {
  Differentiated part = differentiated(name, x, dx);
  int64_t row = 1;
  for (int i = 1; i < x.shape().rank(); ++i) row *= x.shape()[i];
  const int64_t first = begin * row, held = part.elements;
  part.elements = rows * row;
  part.value = [first, held, value = part.value](int64_t i) {
    return i >= first && i < first + held ? value(i - first) : nullptr;
  };
  part.written = [first, written = part.written](int64_t i) { return written(i - first); };
  return part;
}

// A weight; of a stacked expert weight what this rank holds of it.
inline Differentiated differentiated(Weight& weight) {
  Differentiated all = differentiated(weight.name(), weight.master(), weight.gradient());
  if (weight.is_expert()) {
    const ExpertRange range = weight.experts();
    const ElementRuns runs = weight.runs();
    const int64_t each = runs.count * runs.stride;  // elements of a whole expert
    const auto local = [=](int64_t i) -> int64_t {
      const int64_t expert = i / each - range.first, run = i % each / runs.stride;
      const int64_t at = i % runs.stride - runs.first;
      const bool held = expert >= 0 && expert < range.count && at >= 0 && at < runs.length;
      return held ? (expert * runs.count + run) * runs.length + at : -1;
    };
    all.elements = range.total * each;
    all.value = [local, value = all.value](int64_t i) {
      return local(i) >= 0 ? value(local(i)) : nullptr;
    };
    all.written = [local, written = all.written](int64_t i) { return written(local(i)); };
  }
  all.changed = [&weight] { weight.master_changed(); };
  return all;
}

// Compares each tensor's gradient with (objective(x + h) - objective(x - h)) / 2h, element by
// element: max|difference| <= tolerance * max|reference|. Values should be of the order of 1.
// On several ranks all call it with the same list of tensors; `objective` is then one number of all
// of them, the same on every rank.
inline void expect_gradients(const std::vector<Differentiated>& tensors,
                             const std::function<double()>& objective, double tolerance = 1e-6) {
  constexpr double kStep = 1e-5;  // rounding and the third derivative's share both stay small
  for (const Differentiated& tensor : tensors) {
    const auto objective_at = [&](double* value, double x) {
      if (value != nullptr) {
        *value = x;
        tensor.changed();
      }
      return objective();
    };
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < tensor.elements; ++i) {
      double* value = tensor.value(i);
      const double x = value != nullptr ? *value : 0.0;
      const double above = objective_at(value, x + kStep);
      const double below = objective_at(value, x - kStep);
      if (value != nullptr) *value = x;
      const double slope = (above - below) / (2 * kStep);
      largest = std::max(largest, std::abs(slope));
      if (value == nullptr) continue;
      const double here = std::abs(tensor.written(i) - slope);
      difference = std::isfinite(here) ? std::max(difference, here) : HUGE_VAL;
    }
    tensor.changed();
    // Where nothing flows the differences are rounding alone.
    EXPECT_LE(difference, tolerance * std::max(largest, 1e-3))
        << tensor.name << ": largest slope " << largest;
  }
}

}  // namespace switchyard::test
