// Part of vector_loops_body.h: the register tile of the row products, and packing for it.

typedef float Vector __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));
// For memory that is only aligned to a float.
typedef float LooseVector
    __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES), aligned(4), may_alias));

typedef uint32_t LooseWords
    __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES), aligned(2), may_alias));

constexpr int64_t kLanes = SWITCHYARD_VECTOR_BYTES / 4;
constexpr int64_t kTileRows = SWITCHYARD_TILE_ROW_COUNT;
constexpr int64_t kTileColumns = 2 * kLanes;

// The two vectors of a panel's row of kTileColumns elements.
struct PanelRow {
  Vector left, right;
};
inline __attribute__((always_inline)) PanelRow row_of(const float* panel) {
  return {*reinterpret_cast<const LooseVector*>(panel),
          *reinterpret_cast<const LooseVector*>(panel + kLanes)};
}
// bfloat16 pairs: the lower half of a word belongs to the left vector.
inline __attribute__((always_inline)) PanelRow row_of(const uint16_t* panel) {
  const LooseWords pairs = *reinterpret_cast<const LooseWords*>(panel);
  return {(Vector)(pairs << 16), (Vector)(pairs & 0xFFFF0000u)};
}

// How a tile reads its left side: rows at a stride, of which three share an address register, the
// stride and its double doing the rest; or the tile's rows beside each other, depths at a stride.
struct StridedRows {
  StridedRows(const float* a, int64_t stride) : stride_(stride) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < (kTileRows + 2) / 3; ++i) rows_[i] = a + 3 * i * stride;
  }
  static int64_t row_step(int64_t stride) { return stride; }
  inline __attribute__((always_inline)) float operator[](int64_t row) const {
    return rows_[row / 3][(row % 3) * stride_];
  }
  inline __attribute__((always_inline)) void next_depth() {
#pragma GCC unroll 8
    for (int64_t i = 0; i < (kTileRows + 2) / 3; ++i) ++rows_[i];
  }

 private:
  const float* rows_[(kTileRows + 2) / 3];
  int64_t stride_;
};
struct RowsOfDepths {
  explicit RowsOfDepths(const float* a, int64_t stride) : rows_(a), stride_(stride) {}
  static int64_t row_step(int64_t) { return 1; }
  inline __attribute__((always_inline)) float operator[](int64_t row) const { return rows_[row]; }
  inline __attribute__((always_inline)) void next_depth() { rows_ += stride_; }

 private:
  const float* rows_;
  int64_t stride_;
};

// What a tile brings into the second-level cache on the way, a line for each depth.
struct Fetch {
  const char* from;
  int64_t step;  // in bytes
};

// A tile's row of sums to its place.
template <LoopWrite kWrite>
__attribute__((always_inline)) inline void put(Vector left, Vector right, float* c) {
  if (kWrite == kLoopStream) {
    SWITCHYARD_STREAM(c, left);
    SWITCHYARD_STREAM(c + kLanes, right);
    return;
  }
  LooseVector* target = reinterpret_cast<LooseVector*>(c);
  if (kWrite == kLoopAccumulate) {
    left = target[0] + left;
    right = target[1] + right;
  }
  target[0] = left;
  target[1] = right;
}

// The first kRows rows of a tile. One accumulator pair per row, named rather than indexed: an array
// would not stay in registers.
template <int64_t kRows, LoopWrite kWrite, typename Left, typename Element>
__attribute__((always_inline)) inline void tile(Left left_rows, const Element* panel, int64_t depth,
                                                Fetch fetch, float* c, int64_t c_stride) {
#define SWITCHYARD_ROW(i)                             \
  if (i < kRows && kWrite != kLoopStream) {           \
    __builtin_prefetch(c + i * c_stride, 1);          \
    __builtin_prefetch(c + i * c_stride + kLanes, 1); \
  }
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
#define SWITCHYARD_ROW(i) Vector left##i = {}, right##i = {};
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
  for (int64_t k = 0; k < depth; ++k) {
    const PanelRow panel_row = row_of(panel);
    __builtin_prefetch(fetch.from, 0, 2);
    fetch.from += fetch.step;
#define SWITCHYARD_ROW(i)                      \
  if (i < kRows) {                             \
    const float s = left_rows[i];              \
    left##i = s * panel_row.left + left##i;    \
    right##i = s * panel_row.right + right##i; \
  }
    SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
    left_rows.next_depth();
    panel += kTileColumns;
  }
#define SWITCHYARD_ROW(i) \
  if (i < kRows) put<kWrite>(left##i, right##i, c + i * c_stride);
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
}

// As many accumulators as the tile's, so that none waits for another; they begin with 0, 1, 2, ...:
// of equal ones the compiler would keep one.
float multiply_adds(int64_t rounds, float factor) {
  const Vector factors = factor + Vector{};
  const Vector summands = 1.0f + Vector{};
#define SWITCHYARD_ROW(i)               \
  Vector left##i = 2.0f * i + Vector{}; \
  Vector right##i = 2.0f * i + 1.0f + Vector{};
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
  for (int64_t round = 0; round < rounds; ++round) {
#define SWITCHYARD_ROW(i)                 \
  left##i = factors * left##i + summands; \
  right##i = factors * right##i + summands;
    SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
  }
  Vector sum = {};
#define SWITCHYARD_ROW(i) sum += left##i + right##i;
  SWITCHYARD_TILE_ROWS(SWITCHYARD_ROW)
#undef SWITCHYARD_ROW
  float all = 0.0f;
  for (int64_t lane = 0; lane < kLanes; ++lane) all += sum[lane];
  return all;
}

// The same arithmetic for the first of the left rows alone.
template <typename Left, typename Element>
void tile_of_one_row(Left left_rows, const Element* panel, int64_t depth, bool accumulate,
                     float* c) {
  Vector left = {}, right = {};
  for (int64_t k = 0; k < depth; ++k) {
    const PanelRow panel_row = row_of(panel + k * kTileColumns);
    const float s = left_rows[0];
    left = s * panel_row.left + left;
    right = s * panel_row.right + right;
    left_rows.next_depth();
  }
  LooseVector* target = reinterpret_cast<LooseVector*>(c);
  target[0] = accumulate ? target[0] + left : left;
  target[1] = accumulate ? target[1] + right : right;
}

// The first `rows` rows of a tile, at most kRows.
template <int64_t kRows, typename Left, typename Element>
void some_rows(const Left& left, int64_t rows, const Element* panel, int64_t depth, Fetch fetch,
               float* c, int64_t c_stride, int64_t columns, LoopWrite write) {
  if (columns == kTileColumns && rows == kRows) {
    switch (write) {
      case kLoopOverwrite:
        return tile<kRows, kLoopOverwrite>(left, panel, depth, fetch, c, c_stride);
      case kLoopAccumulate:
        return tile<kRows, kLoopAccumulate>(left, panel, depth, fetch, c, c_stride);
      case kLoopStream:
        return tile<kRows, kLoopStream>(left, panel, depth, fetch, c, c_stride);
    }
  }
  // An edge: the same arithmetic beside the target, then what exists of it.
  float edge[kTileRows * kTileColumns];
  tile<kRows, kLoopOverwrite>(left, panel, depth, fetch, edge, kTileColumns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      float* element = c + i * c_stride + j;
      const float sum = edge[i * kTileColumns + j];
      *element = write == kLoopAccumulate ? *element + sum : sum;
    }
  }
}

// The rows of one tile, 1 to kTileRows.
template <typename Left, typename Element>
void rows_of_tile(const float* a, int64_t a_stride, int64_t rows, const Element* panel,
                  int64_t depth, Fetch fetch, float* c, int64_t c_stride, int64_t columns,
                  LoopWrite write) {
  if (columns == kTileColumns && rows <= kFewRows) {
    for (int64_t i = 0; i < rows; ++i) {
      tile_of_one_row(Left(a + i * Left::row_step(a_stride), a_stride), panel, depth,
                      write == kLoopAccumulate, c + i * c_stride);
    }
    return;
  }
  constexpr int64_t kThird = kTileRows / 3;
  const Left left(a, a_stride);
  if (rows > 2 * kThird) {
    some_rows<kTileRows>(left, rows, panel, depth, fetch, c, c_stride, columns, write);
  } else if (rows > kThird) {
    some_rows<2 * kThird>(left, rows, panel, depth, fetch, c, c_stride, columns, write);
  } else {
    some_rows<kThird>(left, rows, panel, depth, fetch, c, c_stride, columns, write);
  }
}

template <typename Element>
void product(const float* a, int64_t a_stride, int64_t rows, const Element* panel, int64_t depth,
             const Element* next, float* c, int64_t c_stride, int64_t columns, bool accumulate) {
  // The next panel's lines, or its rows where they are shorter, shared out among the tiles.
  constexpr int64_t kRowBytes = kTileColumns * static_cast<int64_t>(sizeof(Element));
  constexpr int64_t kStep = kRowBytes < 64 ? kRowBytes : 64;
  int64_t fetched = 0;
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const Fetch fetch{reinterpret_cast<const char*>(next) + fetched, kStep};
    rows_of_tile<StridedRows>(a + row * a_stride, a_stride,
                              rows - row < kTileRows ? rows - row : kTileRows, panel, depth, fetch,
                              c + row * c_stride, c_stride, columns,
                              accumulate ? kLoopAccumulate : kLoopOverwrite);
    fetched += depth * kStep;
    if (fetched >= depth * kRowBytes) fetched = 0;
  }
}

// Rows at depths `a_stride` apart, those of the next tile `a_step` further on. Both sides are near.
void product_by_depths(const float* a, int64_t a_stride, int64_t a_step, int64_t rows,
                       const float* panel, int64_t depth, float* c, int64_t c_stride,
                       int64_t columns, LoopWrite write) {
  const Fetch nothing{reinterpret_cast<const char*>(panel), 0};
  for (int64_t row = 0; row < rows; row += kTileRows, a += a_step) {
    rows_of_tile<RowsOfDepths>(a, a_stride, rows - row < kTileRows ? rows - row : kTileRows, panel,
                               depth, nothing, c + row * c_stride, c_stride, columns, write);
  }
}

void product_transposed(const float* a, int64_t a_stride, int64_t rows, const float* panel,
                        int64_t depth, float* c, int64_t c_stride, int64_t columns,
                        bool accumulate) {
  product_by_depths(a, a_stride, kTileRows, rows, panel, depth, c, c_stride, columns,
                    accumulate ? kLoopAccumulate : kLoopOverwrite);
}

void product_of_depths(const float* a, int64_t rows, const float* panel, int64_t depth, float* c,
                       int64_t c_stride, int64_t columns, LoopWrite write) {
  // Streams want whole vectors at their natural places.
  const uintptr_t place = reinterpret_cast<uintptr_t>(c) | static_cast<uintptr_t>(c_stride * 4);
  if (write == kLoopStream && place % sizeof(Vector) != 0) write = kLoopOverwrite;
  product_by_depths(a, kTileRows, depth * kTileRows, rows, panel, depth, c, c_stride, columns,
                    write);
  if (write == kLoopStream) __builtin_ia32_sfence();
}

// n elements in pieces of kWidth, `distance` apart; the last one is filled up with zeros.
template <int64_t kWidth>
inline __attribute__((always_inline)) void spread(int64_t n, const float* x, float* pieces,
                                                  int64_t distance) {
  for (; n >= kWidth; n -= kWidth, x += kWidth, pieces += distance) {
    __builtin_memcpy(pieces, x, kWidth * sizeof(float));
  }
  if (n == 0) return;
  for (int64_t i = 0; i < kWidth; ++i) pieces[i] = i < n ? x[i] : 0.0f;
}
void spread_rows(int64_t n, const float* x, float* pieces, int64_t distance) {
  spread<kTileRows>(n, x, pieces, distance);
}
void spread_columns(int64_t n, const float* x, float* pieces, int64_t distance) {
  spread<kTileColumns>(n, x, pieces, distance);
}

// to[k * kTileColumns + c] = from[c * stride + k] for kLanes x kLanes elements: zipping the rows'
// first half with their second as often as halves make a whole.
inline void transpose_square(const float* from, int64_t stride, float* to) {
  Vector rows[kLanes], zipped[kLanes];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    rows[i] = *reinterpret_cast<const LooseVector*>(from + i * stride);
  }
#pragma GCC unroll 4
  for (int64_t span = 1; span < kLanes; span *= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      const Vector first = rows[i], second = rows[i + kLanes / 2];
      zipped[2 * i] = __builtin_shufflevector(first, second, SWITCHYARD_ZIP_LOWER);
      zipped[2 * i + 1] = __builtin_shufflevector(first, second, SWITCHYARD_ZIP_UPPER);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) rows[i] = zipped[i];
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes; ++i) {
    *reinterpret_cast<LooseVector*>(to + i * kTileColumns) = rows[i];
  }
}

void pack_panel(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                int64_t column_stride, float* panel) {
  if (columns < kTileColumns) {
    for (int64_t i = 0; i < depth * kTileColumns; ++i) panel[i] = 0.0f;
  }
  if (column_stride == 1 && columns == kTileColumns) {
    for (int64_t k = 0; k < depth; ++k) {
      const LooseVector* source = reinterpret_cast<const LooseVector*>(w + k * depth_stride);
      LooseVector* row = reinterpret_cast<LooseVector*>(panel + k * kTileColumns);
      const Vector left = source[0], right = source[1];
      row[0] = left;
      row[1] = right;
    }
    return;
  }
  if (column_stride == 1) {
    for (int64_t k = 0; k < depth; ++k) {
      const float* source = w + k * depth_stride;
      float* row = panel + k * kTileColumns;
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) row[c] = source[c];
    }
    return;
  }
  const int64_t whole = depth_stride == 1 ? depth / kLanes * kLanes : 0;
  for (int64_t c = 0; c < columns; c += kLanes) {
    const bool vectors = columns - c >= kLanes;
    if (vectors) {
      for (int64_t k = 0; k < whole; k += kLanes) {
        transpose_square(w + c * column_stride + k, column_stride, panel + k * kTileColumns + c);
      }
    }
    for (int64_t i = c; i < columns && i < c + kLanes; ++i) {
      const float* source = w + i * column_stride;
      for (int64_t k = vectors ? whole : 0; k < depth; ++k) {
        panel[k * kTileColumns + i] = source[k * depth_stride];
      }
    }
  }
}

void pack_panel_bf16(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                     int64_t column_stride, uint16_t* panel) {
  typedef uint32_t LooseWord __attribute__((aligned(2), may_alias));
  constexpr int64_t kBlock = 16;
  float block[kBlock * kTileColumns];
  for (int64_t begin = 0; begin < depth; begin += kBlock) {
    const int64_t rows = depth - begin < kBlock ? depth - begin : kBlock;
    pack_panel(w + begin * depth_stride, rows, depth_stride, columns, column_stride, block);
    for (int64_t k = 0; k < rows; ++k, panel += kTileColumns) {
      const float *left = block + k * kTileColumns, *right = left + kLanes;
      LooseWord* pairs = reinterpret_cast<LooseWord*>(panel);
#pragma omp simd
      for (int64_t c = 0; c < kLanes; ++c) {
        pairs[c] = bf16_of_float(left[c]) | static_cast<uint32_t>(bf16_of_float(right[c])) << 16;
      }
    }
  }
}
