// The tile loops on AMX. Assembly rather than GCC 12's intrinsics, which want literal register
// numbers and don't tell the compiler that loads and stores touch memory.
#include "backends/cpu/tile_loops.h"

namespace switchyard::cpu {
namespace {

#include "backends/cpu/tile_loops_body.h"

// Palette 1, which some virtual machines offer without describing it: eight tiles of 16 rows of 64
// bytes.
struct Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Configuration) == 64);

struct Amx {
  static void begin() {
    static constexpr Configuration kConfiguration;
    __asm__ volatile("ldtilecfg %0" ::"m"(kConfiguration));
  }
  static void end() { __asm__ volatile("tilerelease" ::); }
  template <int kTile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile)
                     : "memory");
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile)
                     : "memory");
  }
  template <int kSum, int kLeft, int kRight>
  static void dot() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
  }
};

}  // namespace

const TileLoops kAmxLoops = SWITCHYARD_TILE_LOOPS("amx", Amx);

}  // namespace switchyard::cpu
