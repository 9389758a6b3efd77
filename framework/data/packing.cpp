#include "data/packing.h"

#include "base/check.h"

namespace switchyard {

// Layer 3 sets the order apart from the epochs' orders, which have layer 0.
Packing::Packing(const ExampleSource& examples, int inputs_width, int targets_width, uint64_t seed)
    : order_(examples.size(), {.seed = seed, .layer = 3, .purpose = Purpose::kSampleOrder}) {
  int inputs = 0, targets = 0;
  for (int64_t position = 0; position < examples.size(); ++position) {
    const SampleLengths sample = examples.lengths(order_(position));
    SWITCHYARD_CHECK(sample.inputs <= inputs_width && sample.targets <= targets_width,
                     "a sample of ", sample.inputs, " and ", sample.targets,
                     " tokens is wider than a row");
    if (inputs + sample.inputs > inputs_width || targets + sample.targets > targets_width) {
      first_.push_back(position);
      inputs = targets = 0;
    }
    inputs += sample.inputs;
    targets += sample.targets;
  }
  first_.push_back(examples.size());
}

}  // namespace switchyard
