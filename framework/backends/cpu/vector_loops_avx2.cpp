#define SWITCHYARD_LOOPS kAvx2Loops
#define SWITCHYARD_LOOPS_NAME "avx2"
#define SWITCHYARD_VECTOR_BYTES 32
#define SWITCHYARD_TILE_ROWS(ROW) ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5)
#define SWITCHYARD_TILE_ROW_COUNT 6
#define SWITCHYARD_MULTIPLY_EVEN(a, b) __builtin_ia32_pmuludq256((SignedWords)(a), (SignedWords)(b))
#define SWITCHYARD_ZIP_LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define SWITCHYARD_ZIP_UPPER 4, 12, 5, 13, 6, 14, 7, 15
#define SWITCHYARD_STREAM(to, vector) __builtin_ia32_movntps256(to, vector)
#include "backends/cpu/vector_loops_body.h"
