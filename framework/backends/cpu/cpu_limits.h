// What this processor can do at best, measured: the ceilings that kernels and whole steps are held
// against.
#pragma once

#include "backends/cpu/cpu_isa.h"
#include "ops/device_limits.h"

namespace switchyard::cpu {

// Multiply-adds on registers alone, in the loops' instruction set, and copying and reading of
// memory that no cache holds. Takes about a second and 640 MiB; nothing else should run.
//   threads  of this rank; other ranks of the machine measure at the same time
DeviceLimits measure_limits(int threads, Isa isa);

}  // namespace switchyard::cpu
