// CUDA as a device of this build: a plugin that is opened when somebody asks for it.
#pragma once

#include "registry/devices.h"

namespace switchyard {

DeviceTrouble find_cuda_trouble();

// Whether `auto` may stand for CUDA: a driver is installed and a GPU answers. Opens the plugin only
// where there is a driver.
bool cuda_answers();

// The GPUs found here, or why there are none.
std::string describe_cuda();

// On the GPU that is this rank's: of the ranks on this machine the i-th takes the i-th.
// Throws ConfigError where there are fewer GPUs than ranks.
std::unique_ptr<Kernels> make_cuda();

// Between the GPUs of all ranks, after make_cuda on each; `host` carries what is in host memory.
std::unique_ptr<Collectives> make_cuda_collectives(Collectives& host);

}  // namespace switchyard
