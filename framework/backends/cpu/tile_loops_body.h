// The tile loops over an implementation of the tile operations, a struct of static functions on
// register numbers:
//   begin(), end()
//   zero<t>()
//   load<t>(from, stride)    16 rows of 64 bytes, the stride in bytes
//   store<t>(to, stride)
//   dot<c, a, b>()           c[m, n] += sum of a[m, 2k] b[k, 2n] + a[m, 2k + 1] b[k, 2n + 1]
// Included by one file per implementation, inside an anonymous namespace, with no other code, so
// that nothing compiled for a newer processor can leak into the program.

constexpr int64_t kTileRows = 16;                        // of one register
constexpr int64_t kTileWords = kTileRows * kTileRows;    // pairs of bfloat16 in it
constexpr int64_t kBlockStep = kTileBlock * kTileDepth;  // elements of a packed side per step

typedef uint32_t Word __attribute__((may_alias));  // a pair of bfloat16
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));

// One block of c, whole tiles of it: 16 or 32 rows by 32 columns.
template <typename Tiles, bool kAllRows>
void block(const uint16_t* left, const uint16_t* right, int64_t depth, float* c, int64_t c_stride,
           bool accumulate) {
  const int64_t stride = c_stride * static_cast<int64_t>(sizeof(float));
  float* lower = c + kTileRows * c_stride;
  if (accumulate) {
    Tiles::template load<0>(c, stride);
    Tiles::template load<1>(c + kTileRows, stride);
    if (kAllRows) {
      Tiles::template load<2>(lower, stride);
      Tiles::template load<3>(lower + kTileRows, stride);
    }
  } else {
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    Tiles::template zero<2>();
    Tiles::template zero<3>();
  }
  for (int64_t k = 0; k < depth; k += kTileDepth, left += kBlockStep, right += kBlockStep) {
    Tiles::template load<6>(right, 64);
    Tiles::template load<4>(left, 64);
    Tiles::template load<7>(right + kBlockStep / 2, 64);
    Tiles::template dot<0, 4, 6>();
    Tiles::template dot<1, 4, 7>();
    if (kAllRows) {
      Tiles::template load<5>(left + kBlockStep / 2, 64);
      Tiles::template dot<2, 5, 6>();
      Tiles::template dot<3, 5, 7>();
    }
  }
  Tiles::template store<0>(c, stride);
  Tiles::template store<1>(c + kTileRows, stride);
  if (kAllRows) {
    Tiles::template store<2>(lower, stride);
    Tiles::template store<3>(lower + kTileRows, stride);
  }
}

template <typename Tiles>
void product(const uint16_t* left, int64_t rows, const uint16_t* right, int64_t depth, float* c,
             int64_t c_stride, int64_t columns, bool accumulate) {
  const int64_t left_step = tile_depth_of(depth) * kTileBlock;
  for (int64_t row = 0; row < rows; row += kTileBlock, left += left_step) {
    float* target = c + row * c_stride;
    const int64_t height = rows - row < kTileBlock ? rows - row : kTileBlock;
    if (height == kTileBlock && columns == kTileBlock) {
      block<Tiles, true>(left, right, depth, target, c_stride, accumulate);
      continue;
    }
    // An edge: the same sums beside the target, then what exists of them.
    float edge[kTileBlock * kTileBlock] = {};
    if (accumulate) {
      for (int64_t i = 0; i < height; ++i) {
        for (int64_t j = 0; j < columns; ++j) edge[i * kTileBlock + j] = target[i * c_stride + j];
      }
    }
    if (height > kTileRows) {
      block<Tiles, true>(left, right, depth, edge, kTileBlock, accumulate);
    } else {
      block<Tiles, false>(left, right, depth, edge, kTileBlock, accumulate);
    }
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < columns; ++j) target[i * c_stride + j] = edge[i * kTileBlock + j];
    }
  }
}

inline int64_t row_of(const int32_t* index, int64_t row) {
  return index == nullptr ? row : index[row];
}

// to[n] = from[n], zeros up to `width`.
inline void copy_filled(const uint16_t* from, int64_t n, int64_t width, uint16_t* to) {
  if (n > width) n = width;
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
  for (int64_t i = n; i < width; ++i) to[i] = 0;
}

// Rows of a block that don't exist stay as they are: they lead to rows of c that nobody reads.
void pack_rows(const uint16_t* x, int64_t stride, const int32_t* index, int64_t rows, int64_t depth,
               uint16_t* left) {
  for (int64_t row = 0; row < rows; row += kTileBlock) {
    const int64_t height = rows - row < kTileBlock ? rows - row : kTileBlock;
    for (int64_t k = 0; k < depth; k += kTileDepth, left += kBlockStep) {
      for (int64_t i = 0; i < height; ++i) {
        const uint16_t* from = x + row_of(index, row + i) * stride + k;
        if (depth - k >= kTileDepth) {
          __builtin_memcpy(left + i * kTileDepth, from, kTileDepth * sizeof(uint16_t));
        } else {
          copy_filled(from, depth - k, kTileDepth, left + i * kTileDepth);
        }
      }
    }
  }
}

// Exchanges the elements of two rows that stand on the wrong side of a transposition's blocks of
// kSize elements.
template <int kSize>
inline __attribute__((always_inline)) void exchange(Words& upper, Words& lower) {
#define SWITCHYARD_UPPER(j) ((j & kSize) ? 16 + j - kSize : j)
#define SWITCHYARD_LOWER(j) ((j & kSize) ? 16 + j : j + kSize)
#define SWITCHYARD_EACH(OF)                                                                     \
  OF(0), OF(1), OF(2), OF(3), OF(4), OF(5), OF(6), OF(7), OF(8), OF(9), OF(10), OF(11), OF(12), \
      OF(13), OF(14), OF(15)
  const Words old = upper;
  upper = __builtin_shufflevector(old, lower, SWITCHYARD_EACH(SWITCHYARD_UPPER));
  lower = __builtin_shufflevector(old, lower, SWITCHYARD_EACH(SWITCHYARD_LOWER));
#undef SWITCHYARD_EACH
#undef SWITCHYARD_LOWER
#undef SWITCHYARD_UPPER
}

template <int kSize>
inline __attribute__((always_inline)) void exchange_rows(Words* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if ((i & kSize) == 0) exchange<kSize>(rows[i], rows[i + kSize]);
  }
}

// 16 x 16 words in place.
inline __attribute__((always_inline)) void transpose(Word* words) {
  Words rows[16];
  Words* memory = reinterpret_cast<Words*>(words);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = memory[i];
  exchange_rows<8>(rows);
  exchange_rows<4>(rows);
  exchange_rows<2>(rows);
  exchange_rows<1>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) memory[i] = rows[i];
}

// words[p, c] = the pair x[2p, c], x[2p + 1, c] of up to 32 rows and 16 columns.
inline void pair_rows(const uint16_t* x, int64_t stride, const int32_t* index, int64_t first_row,
                      int64_t rows, int64_t columns, Word* words) {
  static const uint16_t kNothing[kTileRows] = {};
  for (int64_t p = 0; p < kTileRows; ++p, words += kTileRows) {
    const int64_t row = 2 * p;
    const uint16_t* even = row < rows ? x + row_of(index, first_row + row) * stride : kNothing;
    const uint16_t* odd =
        row + 1 < rows ? x + row_of(index, first_row + row + 1) * stride : kNothing;
    if (columns >= kTileRows) {
      for (int64_t c = 0; c < kTileRows; ++c) {
        words[c] = even[c] | static_cast<uint32_t>(odd[c]) << 16;
      }
      continue;
    }
    for (int64_t c = 0; c < kTileRows; ++c) {
      words[c] = c < columns ? even[c] | static_cast<uint32_t>(odd[c]) << 16 : 0;
    }
  }
}

// body(words, row, rows, column, columns) for the 32 x 16 parts of x in the packed order, `words`
// being where a part's pairs belong. A part without columns is there too.
template <typename Body>
inline __attribute__((always_inline)) void over_parts(int64_t depth, int64_t columns,
                                                      uint16_t* packed, const Body& body) {
  for (int64_t column = 0; column < columns; column += kTileBlock) {
    for (int64_t k = 0; k < depth; k += kTileDepth) {
      for (int64_t half = 0; half < kTileBlock; half += kTileRows, packed += kBlockStep / 2) {
        const int64_t wanted = columns - column - half;
        body(reinterpret_cast<Word*>(packed), k, depth - k < kTileDepth ? depth - k : kTileDepth,
             column + half, wanted < 0 ? 0 : wanted);
      }
    }
  }
}

void pack_right(const uint16_t* x, int64_t stride, const int32_t* index, int64_t depth,
                int64_t columns, uint16_t* right) {
  over_parts(depth, columns, right,
             [&](Word* words, int64_t row, int64_t rows, int64_t column, int64_t width) {
               pair_rows(x + column, stride, index, row, rows, width, words);
             });
}

void pack_transposed(const uint16_t* x, int64_t stride, const int32_t* index, int64_t depth,
                     int64_t columns, uint16_t* left) {
  over_parts(depth, columns, left,
             [&](Word* words, int64_t row, int64_t rows, int64_t column, int64_t width) {
               pair_rows(x + column, stride, index, row, rows, width, words);
               transpose(words);
             });
}

// The nearest bfloat16, ties to even; a NaN stays one, though its upper half may be zero.
inline uint32_t bf16_of_float(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded;
}

// to[n] = from[n], rounded, zeros up to `width`.
inline void round_filled(const float* from, int64_t n, int64_t width, uint16_t* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint16_t>(bf16_of_float(from[i]));
  for (int64_t i = n; i < width; ++i) to[i] = 0;
}

void pack_weight(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                 int64_t column_stride, uint16_t* right) {
  over_parts(depth, columns, right,
             [&](Word* words, int64_t row, int64_t rows, int64_t column, int64_t width) {
               const float* part = w + row * depth_stride + column * column_stride;
               if (width > kTileRows) width = kTileRows;
               if (column_stride == 1) {
                 uint16_t rounded[kTileDepth * kTileRows];
                 for (int64_t k = 0; k < rows; ++k) {
                   round_filled(part + k * depth_stride, width, kTileRows, rounded + k * kTileRows);
                 }
                 pair_rows(rounded, kTileRows, nullptr, 0, rows, kTileRows, words);
                 return;
               }
               // A column's depths stand beside each other, and with them its pairs.
               uint16_t* pairs = reinterpret_cast<uint16_t*>(words);
               for (int64_t c = 0; c < kTileRows; ++c) {
                 round_filled(part + c * column_stride, c < width ? rows : 0, kTileDepth,
                              pairs + c * kTileDepth);
               }
               transpose(words);
             });
}

// The table of an implementation.
#define SWITCHYARD_TILE_LOOPS(NAME, TILES)                                                \
  {                                                                                       \
    .name = NAME, .begin = TILES::begin, .end = TILES::end, .product = product<TILES>,    \
    .pack_rows = pack_rows, .pack_transposed = pack_transposed, .pack_right = pack_right, \
    .pack_weight = pack_weight                                                            \
  }
