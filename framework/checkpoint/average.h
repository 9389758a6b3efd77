// The mean of several checkpoints' weights.
#pragma once

#include "checkpoint/checkpoint.h"

namespace switchyard {

// Writes the checkpoint `to`: the mean of every weight, summed in float64 and stored as float32
// (float64 where one of them is), without an optimizer's state. Config, tokenizer and position are
// those of the checkpoint with the most steps. Holds one tensor in memory. Throws CheckpointError
// where names, shapes or tokenizers differ, or for damage; SpaceError.
std::filesystem::path average_checkpoints(const std::vector<Checkpoint>& checkpoints,
                                          const std::filesystem::path& to);

}  // namespace switchyard
