// Which instruction set the CPU backend's loops use, and what the processor offers.
#pragma once

#include <string>
#include <string_view>

#include "backends/cpu/tile_loops.h"
#include "backends/cpu/vector_loops.h"

namespace switchyard::cpu {

// Each has what those before it have; kAmx adds matrix tiles for bfloat16 to kAvx512.
enum class Isa : int { kPortable, kAvx2, kAvx512, kAmx };
inline constexpr Isa kIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

std::string_view name_of(Isa isa);
// Whether this processor and its operating system run it.
bool is_usable(Isa isa);
// SWITCHYARD_CPU_ISA (portable, avx2, avx512 or amx) where it is set, else the best usable one.
// Throws ConfigError for another value, or for one that this processor can't run.
Isa choose_isa();
const VectorLoops& loops_of(Isa isa);
// Null where products of bfloat16 are computed by the vector loops.
const TileLoops* tiles_of(Isa isa);

// Keeps oneDNN within the instruction set, and away from its broken use of AMX on machines with an
// empty tile palette. The first call of the process counts; it must precede any use of oneDNN.
void limit_dnnl(Isa isa);

// "AMX bf16 present and usable", for a person to read.
std::string describe_amx();
std::string processor_name();

}  // namespace switchyard::cpu
