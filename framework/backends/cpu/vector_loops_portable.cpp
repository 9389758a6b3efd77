#define SWITCHYARD_LOOPS kPortableLoops
#define SWITCHYARD_LOOPS_NAME "portable"
#define SWITCHYARD_VECTOR_BYTES 16
#define SWITCHYARD_TILE_ROWS(ROW) ROW(0) ROW(1) ROW(2) ROW(3)
#define SWITCHYARD_TILE_ROW_COUNT 4
#define SWITCHYARD_MULTIPLY_EVEN(a, b) __builtin_ia32_pmuludq128((SignedWords)(a), (SignedWords)(b))
#define SWITCHYARD_ZIP_LOWER 0, 4, 1, 5
#define SWITCHYARD_ZIP_UPPER 2, 6, 3, 7
#define SWITCHYARD_STREAM(to, vector) __builtin_ia32_movntps(to, vector)
#include "backends/cpu/vector_loops_body.h"
