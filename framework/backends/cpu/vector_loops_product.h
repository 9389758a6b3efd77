// Part of vector_loops_body.h: the register tile of the row products, and packing for it.

typedef float Vector __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));
// For memory that is only aligned to a float.
typedef float LooseVector
    __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES), aligned(4), may_alias));

constexpr int64_t kLanes = SWITCHYARD_VECTOR_BYTES / 4;
constexpr int64_t kTileRows = SWITCHYARD_TILE_ROW_COUNT;
constexpr int64_t kTileColumns = 2 * kLanes;

// One accumulator pair per row, named rather than indexed: an array would not stay in registers.
template <bool kAccumulate>
__attribute__((always_inline)) inline void tile(const float* a, const float* panel, int64_t depth,
                                                float* c, int64_t c_stride) {
#define SWITCHYARD_ROW(i) Vector left##i = {}, right##i = {};
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
  for (int64_t k = 0; k < depth; ++k) {
    const Vector panel_left = *reinterpret_cast<const LooseVector*>(panel);
    const Vector panel_right = *reinterpret_cast<const LooseVector*>(panel + kLanes);
#define SWITCHYARD_ROW(i)                  \
  {                                        \
    const float s = a[i * kLeftStride];    \
    left##i = s * panel_left + left##i;    \
    right##i = s * panel_right + right##i; \
  }
    SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
    ++a;
    panel += kTileColumns;
  }
#define SWITCHYARD_ROW(i)                                                   \
  {                                                                         \
    LooseVector* target = reinterpret_cast<LooseVector*>(c + i * c_stride); \
    if (kAccumulate) {                                                      \
      left##i = target[0] + left##i;                                        \
      right##i = target[1] + right##i;                                      \
    }                                                                       \
    target[0] = left##i;                                                    \
    target[1] = right##i;                                                   \
  }
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
}

void product(const float* a, int64_t rows, const float* panel, int64_t depth, float* c,
             int64_t c_stride, int64_t columns, bool accumulate) {
  for (int64_t row = 0; row < rows; row += kTileRows, a += kTileRows * kLeftStride) {
    float* target = c + row * c_stride;
    if (columns == kTileColumns && rows - row >= kTileRows) {
      if (accumulate) {
        tile<true>(a, panel, depth, target, c_stride);
      } else {
        tile<false>(a, panel, depth, target, c_stride);
      }
      continue;
    }
    // An edge: the same arithmetic beside the target, then what exists of it.
    float edge[kTileRows * kTileColumns];
    tile<false>(a, panel, depth, edge, kTileColumns);
    const int64_t edge_rows = rows - row < kTileRows ? rows - row : kTileRows;
    for (int64_t i = 0; i < edge_rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        float* element = target + i * c_stride + j;
        *element = accumulate ? *element + edge[i * kTileColumns + j] : edge[i * kTileColumns + j];
      }
    }
  }
}

void pack_panel(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                int64_t column_stride, float* panel) {
  for (int64_t k = 0; k < depth; ++k) {
    const float* source = w + k * depth_stride;
    float* row = panel + k * kTileColumns;
    for (int64_t c = 0; c < columns; ++c) row[c] = source[c * column_stride];
    for (int64_t c = columns; c < kTileColumns; ++c) row[c] = 0.0f;
  }
}
