// The forms of a weight that products read: its float32 master itself, or a bfloat16 copy of it,
// made anew when the master has changed.
#pragma once

#include "ops/exec_context.h"
#include "tensor/weight.h"

namespace switchyard::cuda {

// The weight in the dtype of the activations, on the context's stream. A weight is used on one
// stream at a time.
TensorView compute_form(ExecContext& ctx, const Weight& w, DType activations);

}  // namespace switchyard::cuda
