// The examples of one split of a dataset, in a fixed order, as a task makes samples of them. Knows
// no epoch and no row; see dataset_source.h.
#pragma once

#include <cstdint>

#include "base/reused_memory.h"
#include "data/span_corruption.h"

namespace switchyard {

// What a model is given of one example: with sentinels and end of text, before padding.
struct Sample {
  ReusedVector<int32_t> inputs, targets;
  int label = 0;
  int64_t example = 0;  // its number, the same in every epoch
};

struct SampleLengths {
  int inputs = 0, targets = 0;
};

class ExampleSource {
 public:
  virtual ~ExampleSource() = default;
  virtual int64_t size() const = 0;
  // Of sample(example, any key), without reading its tokens.
  virtual SampleLengths lengths(int64_t example) const = 0;
  // A pure function of its arguments; threads may call it at once. Throws InputError when the data
  // behind is damaged.
  virtual Sample sample(int64_t example, const SampleKey& key) const = 0;
};

}  // namespace switchyard
