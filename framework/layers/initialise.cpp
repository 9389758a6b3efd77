#include "layers/initialise.h"

#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "base/random.h"

namespace switchyard {

Initial Initialisation::matrix(int64_t fan_in) const {
  return matrix_or(Initial::truncated_normal(std::sqrt(scale / static_cast<double>(fan_in))));
}

Initial Initialisation::matrix_or(const Initial& t5) const {
  return deviation ? Initial::normal(*deviation) : t5;
}

static uint64_t seed_of(const std::string& name, uint64_t seed) {
  const Digest digest = digest_of(name);
  uint64_t word = 0;
  for (int i = 0; i < 8; ++i) word = word << 8 | digest.bytes[static_cast<size_t>(i)];
  return word ^ seed;
}

static double draw(const Initial& initial, const RandomKey& key, int64_t index) {
  const auto high = static_cast<uint32_t>(index >> 32), low = static_cast<uint32_t>(index);
  switch (initial.kind) {
    case Initial::Kind::kConstant:
      return initial.value;
    case Initial::Kind::kNormal:
      return initial.value * random_normal(key, high, 0, low);
    case Initial::Kind::kUniform:
      return initial.value * (2.0 * random_uniform(key, high, 0, low) - 1.0);
    case Initial::Kind::kTruncatedNormal:
      // One draw in 22 is rejected; 256 in a row never are.
      for (uint32_t attempt = 0; attempt < 256; ++attempt) {
        const double z = random_normal(key, high, attempt, low);
        if (std::abs(z) <= 2.0) return initial.value * z;
      }
  }
  return 0.0;
}

template <typename T>
static void fill(T* data, const ElementRuns& runs, const Initial& initial, const std::string& name,
                 uint64_t seed) {
  const RandomKey key{.seed = seed_of(name, seed), .purpose = Purpose::kInit};
  for (int64_t run = 0; run < runs.count; ++run) {
    const int64_t first = runs.first + run * runs.stride;
    for (int64_t i = 0; i < runs.length; ++i) {
      data[run * runs.length + i] = static_cast<T>(draw(initial, key, first + i));
    }
  }
}

template <typename T>
static void initialise_as(Weight& weight, const Initial& initial, uint64_t seed) {
  const Tensor host(weight.dtype(), weight.shape());
  T* data = host.data<T>();
  const ElementRuns runs = weight.runs();
  if (weight.is_expert()) {
    const int64_t each = runs.count * runs.length;
    for (int64_t e = 0; e < weight.experts().count; ++e) {
      fill(data + e * each, runs, initial, weight.name_of_expert(e), seed);
    }
  } else {
    fill(data, runs, initial, weight.name(), seed);
  }
  weight.memory().copy_in(weight.master().raw(), data, host.size_bytes());
  weight.master_changed();
}

void initialise(Weight& weight, const Initial& initial, uint64_t seed) {
  if (weight.dtype() == DType::kFloat64) {
    initialise_as<double>(weight, initial, seed);
  } else {
    initialise_as<float>(weight, initial, seed);
  }
}

}  // namespace switchyard
