#define SWITCHYARD_LOOPS kAvx512Loops
#define SWITCHYARD_LOOPS_NAME "avx512"
#define SWITCHYARD_VECTOR_BYTES 64
#define SWITCHYARD_TILE_ROWS(ROW) \
  ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7) ROW(8) ROW(9) ROW(10) ROW(11)
#define SWITCHYARD_TILE_ROW_COUNT 12
#define SWITCHYARD_MULTIPLY_EVEN(a, b) \
  __builtin_ia32_pmuludq512_mask((SignedWords)(a), (SignedWords)(b), SignedPairs{}, 0xFF)
#define SWITCHYARD_ZIP_LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SWITCHYARD_ZIP_UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define SWITCHYARD_STREAM(to, vector) __builtin_ia32_movntps512(to, vector)
#include "backends/cpu/vector_loops_body.h"
