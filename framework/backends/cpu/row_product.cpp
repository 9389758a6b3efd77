#include "backends/cpu/row_product.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backends/cpu/activation_rows.h"

namespace switchyard::cpu {
namespace {

// Rows of one unit: their copy of one depth block stays in a core's second-level cache.
constexpr int64_t kRowsPerUnit = 264, kRowsPerTiledUnit = 256;

// Tiles take the depth in blocks of at most this size, so that one panel's stays in the first-level
// cache. Sums don't depend on it.
constexpr int64_t kTiledDepthBlock = 512;

// Rows that are a multiple of this many floats apart fall into the same few sets of a first-level
// cache.
constexpr int64_t kConflictingStride = 1024;

// Columns of one unit: their results stay in that cache too, from one depth block to the next.
// Tiles are so fast that copying the rows for every unit anew would show.
constexpr int64_t kColumnsPerUnit = 1024, kColumnsPerTiledUnit = 1024;

// A weight cut into panels of tile_columns columns, each contiguous in depth, for x W^T and for
// x W, in the activations' dtype; packed again when the master has changed.
struct PackedWeight : ComputeForms {
  struct Form {
    Tensor panels;  // [experts, panels, depth, tile_columns]
    uint64_t version = 0;
    const void* loops = nullptr;  // whose layout it is
  };
  Form float32[2], bfloat16[2];  // plain, transposed

  template <typename T>
  Form& form(bool transposed) {
    return (std::is_same_v<T, float> ? float32 : bfloat16)[transposed];
  }
};

PackedWeight& packed_forms(const Weight& weight) {
  auto* forms = dynamic_cast<PackedWeight*>(weight.forms.get());
  if (forms == nullptr) {
    weight.forms = std::make_unique<PackedWeight>();
    forms = static_cast<PackedWeight*>(weight.forms.get());
  }
  return *forms;
}

// What differs between panels of float32 and of bfloat16; see vector_loops.h.
void pack(const VectorLoops& loops, const float* w, int64_t depth, int64_t depth_stride,
          int64_t columns, int64_t column_stride, float* panel) {
  loops.pack_panel(w, depth, depth_stride, columns, column_stride, panel);
}
void pack(const VectorLoops& loops, const float* w, int64_t depth, int64_t depth_stride,
          int64_t columns, int64_t column_stride, BFloat16* panel) {
  loops.pack_panel_bf16(w, depth, depth_stride, columns, column_stride, bits_of(panel));
}
void multiply(const VectorLoops& loops, const float* a, int64_t a_stride, int64_t rows,
              const float* panel, int64_t depth, const float* next, float* c, int64_t c_stride,
              int64_t columns, bool accumulate) {
  loops.product(a, a_stride, rows, panel, depth, next, c, c_stride, columns, accumulate);
}
void multiply(const VectorLoops& loops, const float* a, int64_t a_stride, int64_t rows,
              const BFloat16* panel, int64_t depth, const BFloat16* next, float* c,
              int64_t c_stride, int64_t columns, bool accumulate) {
  loops.product_bf16(a, a_stride, rows, bits_of(panel), depth, bits_of(next), c, c_stride, columns,
                     accumulate);
}

void copy_as_floats(const VectorLoops&, int64_t n, const float* x, float* y) {
  std::memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
}
void copy_as_floats(const VectorLoops& loops, int64_t n, const BFloat16* x, float* y) {
  loops.widen(n, bits_of(x), y);
}

// sum += x
void add_to(const VectorLoops& loops, int64_t n, const BFloat16* x, float* sum) {
  float strip[kStrip];
  over_strips<BFloat16>(0, n, [&](int64_t first, int64_t count) {
    loops.add(count, load(loops, count, x + first, strip), sum + first, sum + first);
  });
}

int64_t rounded_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// The call with what follows from its shapes.
template <typename T>
struct RowProducts::Call {
  const RowProduct<T>& product;
  int64_t depth, columns;
  int64_t tile_rows, tile_columns, panels, panel_elements;
  const T* packed;     // [experts, panels, depth, tile_columns]
  bool left_in_place;  // no need to copy rows of x

  // Where unscattered results go, before any activation; null where no floats can stand there.
  float* compact_result() const {
    if constexpr (std::is_same_v<T, float>) {
      if (product.pre_activation != nullptr) return product.pre_activation;
      return product.y_index == nullptr ? product.y : nullptr;
    } else {
      return nullptr;
    }
  }
};

template <typename T>
const T* RowProducts::packed_panels(const Weight& weight, bool transposed) {
  PackedWeight::Form& form = packed_forms(weight).form<T>(transposed);
  const bool tiled = by_tiles<T>();
  const void* loops = tiled ? static_cast<const void*>(tiles_) : &loops_;
  if (form.version == weight.version() && form.loops == loops) return form.panels.data<T>();
  const Shape& shape = weight.shape();
  const int64_t experts = shape.rank() == 3 ? shape[0] : 1;
  const int64_t out = shape[-2], in = shape[-1];
  const int64_t depth = transposed ? in : out, columns = transposed ? out : in;
  const int64_t depth_stride = transposed ? 1 : in, column_stride = transposed ? in : 1;
  const int64_t tile = tiled ? kTileBlock : loops_.tile_columns;
  const int64_t panels = (columns + tile - 1) / tile;
  const Shape packed_shape{experts, panels, tiled ? tile_depth_of(depth) : depth, tile};
  if (!(form.panels.shape() == packed_shape)) {
    form.panels = Tensor(DTypeOf<T>::value, packed_shape);
  }
  const float* master = weight.master().data<float>();
  T* packed = form.panels.data<T>();
  team_.units(experts * panels, depth * tile, [&](int64_t unit, int) {
    const int64_t expert = unit / panels, column = unit % panels * tile;
    const float* w = master + expert * out * in + column * column_stride;
    T* panel = packed + unit * packed_shape[2] * tile;
    const int64_t width = std::min(tile, columns - column);
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (tiled) {
        tiles_->pack_weight(w, depth, depth_stride, width, column_stride, bits_of(panel));
        return;
      }
    }
    pack(loops_, w, depth, depth_stride, width, column_stride, panel);
  });
  form.version = weight.version();
  form.loops = loops;
  weight.forms_version = weight.version();
  return packed;
}

template <typename T>
RowProducts::Call<T> RowProducts::prepare(const RowProduct<T>& product) {
  const Shape& shape = product.weight->shape();
  const bool tiled = by_tiles<T>();
  const int64_t depth = product.transposed ? shape[-1] : shape[-2];
  const int64_t columns = product.transposed ? shape[-2] : shape[-1];
  const int64_t tile = tiled ? kTileBlock : loops_.tile_columns;
  return {.product = product,
          .depth = depth,
          .columns = columns,
          .tile_rows = tiled ? kTileBlock : loops_.tile_rows,
          .tile_columns = tile,
          .panels = (columns + tile - 1) / tile,
          .panel_elements = (tiled ? tile_depth_of(depth) : depth) * tile,
          .packed = packed_panels<T>(*product.weight, product.transposed),
          .left_in_place = std::is_same_v<T, float> && product.x_index == nullptr &&
                           depth % kConflictingStride != 0};
}

template <typename T>
void RowProducts::run(const RowProduct<T>& product) {
  if (product.offsets.back() == 0) return;
  const Call<T> call = prepare(product);
  const int64_t unit_rows = by_tiles<T>() ? kRowsPerTiledUnit : kRowsPerUnit;
  units_.clear();
  for (size_t expert = 0; expert + 1 < product.offsets.size(); ++expert) {
    const int64_t begin = product.offsets[expert], rows = product.offsets[expert + 1] - begin;
    if (rows == 0) continue;
    const int64_t parts = (rows + unit_rows - 1) / unit_rows;
    const int64_t part_rows = rounded_up((rows + parts - 1) / parts, call.tile_rows);
    for (int64_t row = 0; row < rows; row += part_rows) {
      units_.push_back(
          {static_cast<int64_t>(expert), begin + row, begin + std::min(rows, row + part_rows)});
    }
  }
  // Few row blocks are cut by columns too, so that every thread has several units.
  const int64_t row_units = static_cast<int64_t>(units_.size());
  const int64_t shared_out = team_.size() == 1 ? 1 : (4 * team_.size() + row_units - 1) / row_units;
  const int64_t unit_columns = by_tiles<T>() ? kColumnsPerTiledUnit : kColumnsPerUnit;
  const int64_t groups =
      std::min(std::max(shared_out, (call.columns + unit_columns - 1) / unit_columns), call.panels);
  const int64_t cost =
      product.offsets.back() * call.depth * call.columns / (8 * row_units * groups) + 1;
  team_.units(row_units * groups, cost, [&](int64_t unit, int thread) {
    const int64_t group = unit % groups;
    const Unit& rows = units_[static_cast<size_t>(unit / groups)];
    const int64_t begin = call.panels * group / groups, end = call.panels * (group + 1) / groups;
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (by_tiles<T>()) return compute_by_tiles(call, rows, begin, end, thread);
    }
    compute(call, rows, begin, end, thread);
  });
}

template <typename T>
void RowProducts::compute(const Call<T>& call, const Unit& unit, int64_t panel_begin,
                          int64_t panel_end, int thread) {
  const RowProduct<T>& product = call.product;
  const int64_t tile = loops_.tile_columns;
  const int64_t rows = unit.row_end - unit.row_begin;
  const int64_t column_begin = panel_begin * tile;
  const int64_t column_end = std::min(call.columns, panel_end * tile);
  // Whole tiles of rows are read where they are; the others are copied.
  const int64_t in_place = call.left_in_place ? rows / loops_.tile_rows * loops_.tile_rows : 0;
  const int64_t left_floats = rounded_up(rows - in_place, loops_.tile_rows) * kLeftStride;
  float* result = call.compact_result();
  const bool direct = result != nullptr;
  const int64_t result_stride = direct ? call.columns : column_end - column_begin;
  float* left = team_.buffer(thread, left_floats + (direct ? 0 : rows * result_stride));
  result = direct ? result + unit.row_begin * call.columns + column_begin : left + left_floats;

  const T* panels = call.packed + (unit.expert * call.panels + panel_begin) * call.panel_elements;
  // Added to y itself only where it is the direct target.
  const bool add_to_result = direct && product.write == Write::kAccumulate;
  for (int64_t k = 0; k < call.depth; k += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, call.depth - k);
    for (int64_t row = in_place; row < rows; ++row) {
      const int64_t i = unit.row_begin + row;
      const int64_t source = product.x_index == nullptr ? i : product.x_index[i];
      copy_as_floats(loops_, depth, product.x + source * call.depth + k,
                     left + (row - in_place) * kLeftStride);
    }
    for (int64_t panel = 0; panel < panel_end - panel_begin; ++panel) {
      const int64_t column = panel * tile;
      const int64_t columns = std::min(tile, column_end - column_begin - column);
      const T* packed = panels + panel * call.panel_elements + k * tile;
      const bool last = panel + 1 == panel_end - panel_begin;
      const T* next = last ? packed : packed + call.panel_elements;
      const bool accumulate = k > 0 || add_to_result;
      if constexpr (std::is_same_v<T, float>) {
        multiply(loops_, product.x + unit.row_begin * call.depth + k, call.depth, in_place, packed,
                 depth, next, result + column, result_stride, columns, accumulate);
      }
      multiply(loops_, left, kLeftStride, rows - in_place, packed, depth, next,
               result + in_place * result_stride + column, result_stride, columns, accumulate);
    }
  }
  finish(call, unit, column_begin, column_end, result, result_stride);
}

void RowProducts::compute_by_tiles(const Call<BFloat16>& call, const Unit& unit,
                                   int64_t panel_begin, int64_t panel_end, int thread) {
  const RowProduct<BFloat16>& product = call.product;
  const int64_t rows = unit.row_end - unit.row_begin;
  const int64_t column_begin = panel_begin * kTileBlock;
  const int64_t column_end = std::min(call.columns, panel_end * kTileBlock);
  // Not a power of two, for the sake of a first-level cache's sets.
  const int64_t result_stride = (panel_end - panel_begin) * kTileBlock + 16;
  // Depth in equal blocks, whole steps of the tiles.
  const int64_t blocks = (call.depth + kTiledDepthBlock - 1) / kTiledDepthBlock;
  const int64_t block = tile_depth_of((call.depth + blocks - 1) / blocks);
  const int64_t left_floats = rounded_up(rows, kTileBlock) * block / 2;
  float* result = team_.buffer(thread, left_floats + rows * result_stride) + left_floats;
  uint16_t* left = reinterpret_cast<uint16_t*>(result - left_floats);
  const int32_t* index = product.x_index == nullptr ? nullptr : product.x_index + unit.row_begin;
  const uint16_t* x =
      bits_of(index == nullptr ? product.x + unit.row_begin * call.depth : product.x);
  tiles_->begin();
  for (int64_t k = 0; k < call.depth; k += block) {
    const int64_t depth = std::min(block, call.depth - k);
    tiles_->pack_rows(x + k, call.depth, index, rows, depth, left);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const int64_t column = panel * kTileBlock;
      const BFloat16* packed =
          call.packed + (unit.expert * call.panels + panel) * call.panel_elements + k * kTileBlock;
      tiles_->product(left, rows, bits_of(packed), depth, result + column - column_begin,
                      result_stride, kTileBlock, k > 0);
    }
  }
  tiles_->end();
  finish(call, unit, column_begin, column_end, result, result_stride);
}

// The activation, the rounding, and the way of scattered rows to their places.
template <typename T>
void RowProducts::finish(const Call<T>& call, const Unit& unit, int64_t column_begin,
                         int64_t column_end, float* result, int64_t result_stride) {
  const RowProduct<T>& product = call.product;
  const int kind = static_cast<int>(product.activation);
  const bool in_place =
      std::is_same_v<T, float> && product.y_index == nullptr && product.pre_activation == nullptr;
  if (in_place && product.activation == Activation::kNone) return;
  const int64_t columns = column_end - column_begin;
  for (int64_t i = unit.row_begin; i < unit.row_end; ++i) {
    float* row = result + (i - unit.row_begin) * result_stride;
    if constexpr (!std::is_same_v<T, float>) {
      // A float32 pre-activation is where the result was computed.
      if (product.pre_activation != nullptr) {
        store(loops_, columns, row, product.pre_activation + i * call.columns + column_begin);
      }
    }
    const int64_t place = product.y_index == nullptr ? i : product.y_index[i];
    T* y_row = product.y + place * call.columns + column_begin;
    float* y = target(y_row, row);
    if (y != row || product.activation != Activation::kNone) {
      loops_.activation(kind, columns, row, y);
    }
    if (product.y_index != nullptr && product.y_scale != nullptr) {
      loops_.scale(columns, y, product.y_scale[i], y);
    }
    if constexpr (!std::is_same_v<T, float>) {
      if (product.write == Write::kAccumulate) add_to(loops_, columns, y_row, y);
      store(loops_, columns, y, y_row);
    }
  }
}

template void RowProducts::run(const RowProduct<float>& product);
template void RowProducts::run(const RowProduct<BFloat16>& product);

}  // namespace switchyard::cpu
