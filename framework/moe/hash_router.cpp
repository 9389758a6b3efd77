#include "moe/hash_router.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <sstream>

#include "base/errors.h"
#include "base/random.h"
#include "config/fields.h"

namespace switchyard {

namespace {

constexpr uint64_t kHashKey = 0x5357495443484841;

// How often each id occurs; -1 where the file doesn't name it.
std::vector<int64_t> read_frequencies(const std::string& file, int64_t vocabulary) {
  std::ifstream lines(file);
  if (!lines) throw InputError("the frequencies of token ids can't be read", file);
  std::vector<int64_t> counts(static_cast<size_t>(vocabulary), -1);
  std::string line, rest;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    int64_t id = 0, count = 0;
    const auto refuse = [&](const std::string& what) {
      throw InputError(what, file + ":" + std::to_string(number),
                       "a line is a token id below " + std::to_string(vocabulary) +
                           " and how often it occurs, each id once");
    };
    if (!(words >> id >> count) || words >> rest) refuse("not an id and a count: '" + line + "'");
    if (id < 0 || id >= vocabulary) refuse("token id " + std::to_string(id) + " isn't in use");
    if (count < 0) refuse("a count of " + std::to_string(count));
    if (counts[static_cast<size_t>(id)] >= 0)
      refuse("token id " + std::to_string(id) + " for the second time");
    counts[static_cast<size_t>(id)] = count;
  }
  return counts;
}

}  // namespace

void HashRouterOptions::describe(Fields& f) {
  f.text("frequencies", frequencies,
         "File of lines 'id count' by which experts get equally many tokens; empty: a hash.");
}

std::vector<int32_t> experts_by_hash(int64_t vocabulary, int64_t experts, uint16_t layer) {
  std::vector<int32_t> table;
  for (int64_t id = 0; id < vocabulary; ++id) {
    const uint32_t word = philox(static_cast<uint32_t>(id), layer, 0, 0, kHashKey).word[0];
    table.push_back(static_cast<int32_t>(word % static_cast<uint64_t>(experts)));
  }
  return table;
}

std::vector<int32_t> experts_by_frequency(const std::string& file, int64_t vocabulary,
                                          int64_t experts, uint16_t layer) {
  std::vector<int32_t> table = experts_by_hash(vocabulary, experts, layer);
  const std::vector<int64_t> counts = read_frequencies(file, vocabulary);
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return counts[i] > counts[j]; });
  std::vector<int64_t> load(static_cast<size_t>(experts), 0);
  for (const size_t id : order) {
    if (counts[id] < 0) break;
    const auto least = std::min_element(load.begin(), load.end());
    table[id] = static_cast<int32_t>(least - load.begin());
    *least += counts[id];
  }
  return table;
}

HashRouter::HashRouter(const HashRouterOptions& options, const RouterPlace& place)
    : experts_(place.experts),
      dtype_(place.dtype),
      table_(DType::kInt32, {place.vocabulary}, place.memory) {
  const std::vector<int32_t> table =
      options.frequencies.empty()
          ? experts_by_hash(place.vocabulary, experts_, place.layer)
          : experts_by_frequency(options.frequencies, place.vocabulary, experts_, place.layer);
  place.memory.copy_in(table_.view().raw(), table.data(), table.size() * sizeof(int32_t));
}

void HashRouter::forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
                         Routing& routing) {
  const int64_t tokens = input.x.shape()[0];
  routing.chosen = decided;
  if (decided.absent()) {
    routing.chosen = ctx.decisions.allocate(DType::kInt32, {tokens, 1});
    look_up_choices(ctx, table_, input.rows.ids, input.routed, routing.chosen);
  }
  routing.expert = routing.chosen;
  const ScratchScope scope(ctx.scratch);
  const TensorView ones = ctx.scratch.allocate(dtype_, {tokens, 1});
  fill_zero(ctx, ones);
  softmax(ctx, ones, ones);  // of one number: 1
  routing.probs = ctx.saved.allocate(dtype_, {tokens, experts_});
  fill_zero(ctx, routing.probs);
  gather_choices_backward(ctx, routing.chosen, ones, routing.probs);
  routing.scores = routing.probs;
  routing.weight = ctx.saved.allocate(dtype_, {tokens, 1});
  gather_choices(ctx, routing.probs, routing.expert, routing.weight);
}

void HashRouter::reroute(LayerContext&, TensorView, Routing&) {
  SWITCHYARD_CHECK(false, "the hash router was asked to reroute");
}

}  // namespace switchyard
