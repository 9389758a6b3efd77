// `data show`: a split's sequences in words, as the model reads them.
#pragma once

#include "registry/run_data.h"

namespace switchyard {

// Prints sequences first .. first + count - 1; of validation, those that there are.
void show_sequences(const RunData& data, Split split, int64_t first, int64_t count);

}  // namespace switchyard
