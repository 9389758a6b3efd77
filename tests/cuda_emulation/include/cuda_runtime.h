// NVIDIA's header of this name as g++ reads it, and the part of CUDA C++ that only nvcc knows:
// found before NVIDIA's own when the .cu files are compiled for the emulation.
#pragma once

// The launch is ours: NVIDIA's forgets the types of the arguments, which the emulation checks.
#define cudaLaunchKernelEx cuda_launch_without_types
#include_next <cuda_runtime.h>
#undef cudaLaunchKernelEx

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

#include "cuda_emulation/device.h"
#include "cuda_emulation/launch.h"
#include "cuda_emulation/math.h"
