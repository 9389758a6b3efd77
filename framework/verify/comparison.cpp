#include "verify/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "registry/make_model.h"
#include "trainer/metrics.h"

namespace switchyard {
namespace {

// The first element in the largest difference, and the size of what it is compared with.
struct Largest {
  double difference = 0, reference = 0;
  int64_t at = -1;
  bool equal = true;

  double relative() const {
    if (difference == 0) return 0;
    return reference == 0 ? std::numeric_limits<double>::infinity() : difference / reference;
  }
};

template <typename T>
Largest compare_as(const Item& seen, const Item& expected) {
  Largest largest;
  const T *a = seen.data<T>(), *b = expected.data<T>();
  for (int64_t i = 0; i < expected.shape.elements(); ++i) {
    largest.reference = std::max(largest.reference, std::abs(static_cast<double>(b[i])));
  }
  for (const Share& run : seen.held) {
    for (int64_t i = run.begin; i < run.end; ++i) {
      if (std::memcmp(&a[i], &b[i], sizeof(T)) == 0) continue;
      double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
      // A NaN, or an infinity against another value.
      if (!std::isfinite(difference)) difference = std::numeric_limits<double>::infinity();
      if (largest.equal || difference > largest.difference) {
        largest.difference = difference;
        largest.at = i;
      }
      largest.equal = false;
    }
  }
  return largest;
}

Largest compare(const Item& seen, const Item& expected) {
  switch (seen.dtype) {
    case DType::kFloat32:
      return compare_as<float>(seen, expected);
    case DType::kFloat64:
      return compare_as<double>(seen, expected);
    case DType::kInt32:
      return compare_as<int32_t>(seen, expected);
    case DType::kInt64:
      return compare_as<int64_t>(seen, expected);
    case DType::kUint8:
    case DType::kBFloat16:
      break;
  }
  SWITCHYARD_CHECK(false, "a snapshot of ", name_of(seen.dtype));
  return {};
}

template <typename T>
T load(const std::byte* element) {
  T value;
  std::memcpy(&value, element, sizeof value);
  return value;
}

std::string value_text(DType dtype, const std::byte* element) {
  switch (dtype) {
    case DType::kFloat32:
      return fmt::format("{:.9g}", load<float>(element));
    case DType::kFloat64:
      return fmt::format("{:.17g}", load<double>(element));
    case DType::kInt32:
      return fmt::format("{}", load<int32_t>(element));
    default:
      return fmt::format("{}", load<int64_t>(element));
  }
}

std::string value_text(const Item& item, int64_t at) {
  return value_text(item.dtype, &item.bytes[static_cast<size_t>(at) * size_of(item.dtype)]);
}

std::string index_text(const Shape& shape, int64_t at) {
  if (shape.elements() == 1) return "";
  std::string text;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    text = std::to_string(at % shape[d]) + (text.empty() ? "" : ", ") + text;
    at /= shape[d];
  }
  return " [" + text + "]";
}

// "gradient of x [3, 17] is 0.2"; names that say it all stand alone.
std::string element_text(const Item& item, int64_t at) {
  const std::string check = name_of(item.check);
  const std::string named = item.name == check ? check : check + " of " + item.name;
  return named + index_text(item.shape, at) + " is " + value_text(item, at);
}

bool tolerated(const Largest& largest, const Item& item, const Tolerance& tolerance,
               double learning_rate) {
  if (largest.equal) return true;
  if (tolerance.exact || !is_floating(item.dtype)) return false;
  double allowed = tolerance.relative * largest.reference;
  if (item.check == Check::kWeight) allowed += tolerance.of_learning_rate * learning_rate;
  return largest.difference <= allowed;
}

}  // namespace

// Activations and their gradients are rounded row by row and are the same in every layout, in
// bfloat16 too; what differs are sums over rows and ranks, in the weights' dtype. Where slices add
// up rounded activations, the last bit of a bfloat16 can open or close a ReLU: no tolerance for
// single elements would mean anything.
Tolerance tolerance_of(const Config& config) {
  const DType precision = precision_of(config);
  if (precision == DType::kBFloat16 && config.parallel.expert_tensor > 1) {
    throw ConfigError("slices of experts add up rows rounded to bfloat16: layouts differ by that",
                      "parallel.expert_tensor, train.precision",
                      "verify these layouts with --set train.precision=float32");
  }
  return {.exact = config.train.reduction == TrainConfig::Reduction::kOrdered,
          .relative = precision == DType::kFloat64 ? 1e-12 : 1e-5};
}

std::string place_of(const Failure& failure) {
  return failure.step == 0 ? fmt::format("before the first step, rank {}", failure.rank)
                           : fmt::format("step {}, rank {}", failure.step, failure.rank);
}

void Comparison::fail(size_t item, Failure first) {
  if (failure) return;
  failed_item_ = item;
  failure = std::move(first);
}

void Comparison::add(const Snapshot& seen, const Snapshot& expected, const Tolerance& tolerance,
                     int64_t step, double learning_rate) {
  SWITCHYARD_CHECK(seen.size() == expected.size(), seen.size(), " items, reference ",
                   expected.size());
  for (size_t i = 0; i < seen.size(); ++i) {
    const Item &item = seen[i], &whole = expected[i];
    SWITCHYARD_CHECK(
        item.name == whole.name && item.dtype == whole.dtype && item.shape == whole.shape,
        item.name, " ", item.shape, ", reference ", whole.name, " ", whole.shape);
    if (item.held.empty()) continue;
    const Largest largest = compare(item, whole);
    Difference& group = groups[static_cast<size_t>(item.group)];
    group.exists = true;
    group.equal = group.equal && largest.equal;
    group.largest = std::max(group.largest, largest.relative());
    if (tolerated(largest, item, tolerance, learning_rate)) continue;
    fail(i,
         {.check = item.check,
          .step = step,
          .rank = current_rank(),
          .what = element_text(item, largest.at) + ", reference " + value_text(whole, largest.at)});
  }
}

void Comparison::add_copies(Collectives& world, Snapshot& seen, int64_t step,
                            std::optional<Check> only) {
  std::vector<size_t> place;
  std::vector<Item*> items;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (only && seen[i].check != *only) continue;
    place.push_back(i);
    items.push_back(&seen[i]);
  }
  const std::vector<Merged> merged = make_whole(world, items);
  for (size_t i = 0; i < items.size(); ++i) {
    const Item& item = *items[i];
    const auto differs = [&](std::string what) {
      fail(place[i],
           {.check = item.check, .step = step, .rank = current_rank(), .what = std::move(what)});
    };
    if (const auto& missing = merged[i].missing) {
      differs(fmt::format("no rank holds {} of {}{}", name_of(item.check), item.name,
                          index_text(item.shape, *missing)));
    } else if (const auto& at = merged[i].differs) {
      differs(element_text(item, *at) + ", its copy on another rank " +
              value_text(item.dtype, merged[i].other.data()));
    }
  }
}

static void broadcast_text(Collectives& world, std::string& text, int root) {
  InlineStream stream;
  auto size = static_cast<int64_t>(text.size());
  world.broadcast(stream, TensorView(&size, DType::kInt64, {1}), root)->wait();
  text.resize(static_cast<size_t>(size));
  world.broadcast(stream, TensorView(text.data(), DType::kUint8, {size}), root)->wait();
}

void Comparison::combine(Collectives& world) {
  // Of the failures the first of the step's items counts, then the lowest rank's.
  const double none = -std::numeric_limits<double>::infinity();
  std::vector<double> largest = {failure ? -static_cast<double>(failed_item_) : none};
  for (const Difference& group : groups) {
    largest.push_back(group.exists ? 1 : 0);
    largest.push_back(group.equal ? 0 : 1);
    largest.push_back(group.largest);
  }
  largest = max_over_ranks(world, largest);
  for (size_t g = 0; g < kItemGroups; ++g) {
    const double* of_group = &largest[1 + 3 * g];
    groups[g] = {.exists = of_group[0] > 0, .equal = of_group[1] == 0, .largest = of_group[2]};
  }
  if (largest[0] == none) return;
  const bool mine = failure && -static_cast<double>(failed_item_) == largest[0];
  const double rank = -max_over_ranks(world, {mine ? -static_cast<double>(world.rank()) : none})[0];
  const auto root = static_cast<int>(rank);
  Failure first = mine && world.rank() == root ? *failure : Failure{};
  InlineStream stream;
  int64_t place[] = {static_cast<int64_t>(first.check), first.step, root};
  world.broadcast(stream, TensorView(place, DType::kInt64, {3}), root)->wait();
  broadcast_text(world, first.what, root);
  failure = Failure{static_cast<Check>(place[0]), place[1], root, first.what};
  failed_item_ = static_cast<size_t>(-largest[0]);
}

}  // namespace switchyard
