#include "backends/cpu/cpu_isa.h"

#include <cpuid.h>
#include <oneapi/dnnl/dnnl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/errors.h"

namespace switchyard::cpu {
namespace {

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

// All zero where the processor has no such leaf.
Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool has_amx_bf16() {
  const unsigned d = cpuid(7).d;
  return (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0;
}

// Tile palettes, as the processor describes them; some virtual machines leave the leaf empty.
bool tile_palette_described() { return cpuid(0x1D).a != 0; }

// The operating system saves tile registers and grants them to this process.
bool amx_granted() {
  if ((cpuid(1).c >> 27 & 1) == 0) return false;  // no XGETBV
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return (low & kTileState) == kTileState &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Isa best_isa() {
  Isa best = Isa::kPortable;
  for (const Isa isa : kIsas) {
    if (is_usable(isa)) best = isa;
  }
  return best;
}

std::string names_of_isas() {
  std::string names;
  for (const Isa isa : kIsas) names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
  return names;
}

}  // namespace

std::string_view name_of(Isa isa) {
  constexpr std::array<std::string_view, 4> kNames = {"portable", "avx2", "avx512", "amx"};
  return kNames[static_cast<size_t>(isa)];
}

bool is_usable(Isa isa) {
  __builtin_cpu_init();
  switch (isa) {
    case Isa::kAmx:
      return is_usable(Isa::kAvx512) && has_amx_bf16() && amx_granted();
    case Isa::kAvx512:
      return is_usable(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kPortable:
      break;
  }
  return true;
}

Isa choose_isa() {
  const char* wanted = std::getenv("SWITCHYARD_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return best_isa();
  for (const Isa isa : kIsas) {
    if (name_of(isa) != wanted) continue;
    if (is_usable(isa)) return isa;
    throw ConfigError("this processor cannot run '" + std::string(wanted) + "'",
                      "environment variable SWITCHYARD_CPU_ISA",
                      "unset it to use " + std::string(name_of(best_isa())));
  }
  throw ConfigError("unknown instruction set '" + std::string(wanted) + "'",
                    "environment variable SWITCHYARD_CPU_ISA",
                    "allowed: " + names_of_isas() + "; unset it to use the best one");
}

const VectorLoops& loops_of(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
    case Isa::kAvx512:
      return kAvx512Loops;
    case Isa::kAvx2:
      return kAvx2Loops;
    case Isa::kPortable:
      break;
  }
  return kPortableLoops;
}

const TileLoops* tiles_of(Isa isa) { return isa == Isa::kAmx ? &kAmxLoops : nullptr; }

void limit_dnnl(Isa isa) {
  static std::once_flag once;
  std::call_once(once, [isa] {
    dnnl_cpu_isa_t limit = dnnl_cpu_isa_all;
    if (isa == Isa::kPortable) {
      limit = dnnl_cpu_isa_sse41;
    } else if (isa == Isa::kAvx2) {
      limit = dnnl_cpu_isa_avx2;
    } else if (!tile_palette_described()) {
      limit = dnnl_cpu_isa_avx512_core_bf16;
    }
    if (dnnl_set_max_cpu_isa(limit) != dnnl_success) {
      throw Error(ExitCode::kDefect, "oneDNN was used before its instruction set was limited");
    }
  });
}

std::string describe_amx() {
  if (!has_amx_bf16()) return "AMX bf16 not present";
  if (!amx_granted()) return "AMX bf16 present, not granted by the operating system";
  return tile_palette_described() ? "AMX bf16 present and usable"
                                  : "AMX bf16 present and usable (tile palette not described)";
}

std::string processor_name() {
  if (cpuid(0x80000000u).a < 0x80000004u) return "unknown processor";
  std::string name;
  for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const Registers r = cpuid(leaf);
    for (unsigned word : {r.a, r.b, r.c, r.d}) {
      char part[4];
      std::memcpy(part, &word, sizeof part);
      name.append(part, sizeof part);
    }
  }
  name.resize(std::strlen(name.c_str()));
  const size_t begin = name.find_first_not_of(' ');
  return begin == std::string::npos ? "unknown processor" : name.substr(begin);
}

}  // namespace switchyard::cpu
