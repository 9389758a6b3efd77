// Which tensor of a set of files each tensor of a model is.
#pragma once

#include <string>
#include <vector>

#include "conversion/model_source.h"
#include "conversion/model_tensors.h"
#include "safetensors/safetensors.h"

namespace switchyard {

struct Matched {
  std::vector<SourceTensor> tensors;  // in the order wanted; they read from `set`
  std::vector<LeftOut> left_out;
};

// Finds every tensor wanted, of its shape and a type that can be converted, and accounts for every
// byte of the set. Throws CheckpointError that counts and names the tensors that are missing, of
// another shape, of a type that isn't converted, only in part used, there in two forms, unequal
// where they must be equal, or there besides.
//   set  must outlive the result
Matched match_tensors(const Dialect& dialect, const std::vector<TensorSpec>& wanted,
                      const SafetensorsSet& set, const std::string& where);

}  // namespace switchyard
