// Products of bfloat16 by matrix tiles (AMX): 16 rows of 64 bytes a register, eight registers.
// Plain functions on raw pointers, as in vector_loops.h. The kernel is written once, over five tile
// operations (tile_loops_body.h); the tests run it over a model of them on any processor.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace switchyard::cpu {

// Rows and columns of the block that four tiles accumulate, and the depth that one step takes.
inline constexpr int64_t kTileBlock = 32, kTileDepth = 32;

// static: see vector_loops.h
static constexpr int64_t tile_depth_of(int64_t depth) {
  return (depth + kTileDepth - 1) / kTileDepth * kTileDepth;
}

// bfloat16 is uint16_t. Packed sides are contiguous, since rows at a stride of 2^n bytes meet in
// few sets of a first-level cache; their depth is rounded up to kTileDepth and filled with zeros:
//   left   [blocks of rows][depth / 32][32 rows, 32]
//   right  [blocks of columns][depth / 32][2 halves][16 pairs, 16 columns, 2]
// Rows of x are x[index[i]], or x[i] where index is null.
struct TileLoops {
  const char* name;

  // Before the calling thread's first product, and after its last one.
  void (*begin)();
  void (*end)();

  // c[rows, columns] = or += left right, one block of columns; sums in float32 as the processor's
  // TDPBF16PS does: for every element the even and the odd ones of 32 depths by themselves, one
  // such sum after the other, whatever the rows and depths of the call.
  void (*product)(const uint16_t* left, int64_t rows, const uint16_t* right, int64_t depth,
                  float* c, int64_t c_stride, int64_t columns, bool accumulate);

  // left = x[rows, depth]
  void (*pack_rows)(const uint16_t* x, int64_t stride, const int32_t* index, int64_t rows,
                    int64_t depth, uint16_t* left);
  // left = x[depth, columns] transposed
  void (*pack_transposed)(const uint16_t* x, int64_t stride, const int32_t* index, int64_t depth,
                          int64_t columns, uint16_t* left);
  // right = x[depth, columns]
  void (*pack_right)(const uint16_t* x, int64_t stride, const int32_t* index, int64_t depth,
                     int64_t columns, uint16_t* right);
  // right[k, c] = w[k * depth_stride + c * column_stride], rounded; one block, columns <= 32; one
  // of the strides is 1.
  void (*pack_weight)(const float* w, int64_t depth, int64_t depth_stride, int64_t columns,
                      int64_t column_stride, uint16_t* right);
};

extern const TileLoops kAmxLoops;

}  // namespace switchyard::cpu
