// The CPU backend's tile loops over a model of AMX, instruction by instruction, so that they can be
// tested on any processor.
#pragma once

#include "backends/cpu/tile_loops.h"

namespace switchyard::test {

// As the manual defines them ("Intel 64 and IA-32 Architectures Software Developer's Manual",
// TDPBF16PS): the even elements of a pair and the odd ones are summed by themselves, with fused
// multiply-adds that round to the nearest even; subnormal numbers count as 0, in and out.
extern const cpu::TileLoops kModelledTiles;

}  // namespace switchyard::test
