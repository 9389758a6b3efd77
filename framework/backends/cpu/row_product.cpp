#include "backends/cpu/row_product.h"

#include <algorithm>
#include <cstring>

namespace switchyard::cpu {
namespace {

// Rows of one unit: their copy of one depth block stays in a core's second-level cache.
constexpr int64_t kRowsPerUnit = 240;

// Rows that are a multiple of this many floats apart fall into the same few sets of a first-level
// cache.
constexpr int64_t kConflictingStride = 1024;

// A weight cut into panels of tile_columns columns, each contiguous in depth, for x W^T and for
// x W; packed again when the master has changed.
struct PackedWeight : ComputeForms {
  struct Form {
    Tensor panels;  // [experts, panels, depth, tile_columns]
    uint64_t version = 0;
    int64_t tile_columns = 0;
  };
  Form transposed, plain;
};

PackedWeight& packed_forms(const Weight& weight) {
  auto* forms = dynamic_cast<PackedWeight*>(weight.forms.get());
  if (forms == nullptr) {
    weight.forms = std::make_unique<PackedWeight>();
    forms = static_cast<PackedWeight*>(weight.forms.get());
  }
  return *forms;
}

int64_t rounded_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// The call with what follows from its shapes.
struct RowProducts::Call {
  const RowProduct& product;
  int64_t depth, columns, panels;
  const float* packed;  // [experts, panels, depth, tile_columns]
  bool left_in_place;   // no need to copy rows of x

  // Where unscattered results go, before any activation.
  float* compact_result() const {
    return product.pre_activation != nullptr ? product.pre_activation
                                             : (product.y_index == nullptr ? product.y : nullptr);
  }
};

const float* RowProducts::packed_panels(const Weight& weight, bool transposed) {
  PackedWeight& forms = packed_forms(weight);
  PackedWeight::Form& form = transposed ? forms.transposed : forms.plain;
  const int64_t tile = loops_.tile_columns;
  if (form.version == weight.version() && form.tile_columns == tile) {
    return form.panels.data<float>();
  }
  const Shape& shape = weight.shape();
  const int64_t experts = shape.rank() == 3 ? shape[0] : 1;
  const int64_t out = shape[-2], in = shape[-1];
  const int64_t depth = transposed ? in : out, columns = transposed ? out : in;
  const int64_t panels = (columns + tile - 1) / tile;
  const Shape packed_shape{experts, panels, depth, tile};
  if (!(form.panels.shape() == packed_shape)) form.panels = Tensor(DType::kFloat32, packed_shape);
  const float* master = weight.master().data<float>();
  float* packed = form.panels.data<float>();
  team_.units(experts * panels, depth * tile, [&](int64_t unit, int) {
    const int64_t expert = unit / panels, column = unit % panels * tile;
    loops_.pack_panel(master + expert * out * in + column * (transposed ? in : 1), depth,
                      transposed ? 1 : in, std::min(tile, columns - column), transposed ? in : 1,
                      packed + unit * depth * tile);
  });
  form.version = weight.version();
  form.tile_columns = tile;
  weight.forms_version = weight.version();
  return packed;
}

void RowProducts::run(const RowProduct& product) {
  if (product.offsets.back() == 0) return;
  const Shape& shape = product.weight->shape();
  const int64_t depth = product.transposed ? shape[-1] : shape[-2];
  const int64_t columns = product.transposed ? shape[-2] : shape[-1];
  const Call call{product,
                  depth,
                  columns,
                  (columns + loops_.tile_columns - 1) / loops_.tile_columns,
                  packed_panels(*product.weight, product.transposed),
                  product.x_index == nullptr && depth % kConflictingStride != 0};
  units_.clear();
  for (size_t expert = 0; expert + 1 < product.offsets.size(); ++expert) {
    const int64_t begin = product.offsets[expert], rows = product.offsets[expert + 1] - begin;
    if (rows == 0) continue;
    const int64_t parts = (rows + kRowsPerUnit - 1) / kRowsPerUnit;
    const int64_t part_rows = rounded_up((rows + parts - 1) / parts, loops_.tile_rows);
    for (int64_t row = 0; row < rows; row += part_rows) {
      units_.push_back(
          {static_cast<int64_t>(expert), begin + row, begin + std::min(rows, row + part_rows)});
    }
  }
  // Few row blocks are cut by columns too, so that every thread has several units.
  const int64_t row_units = static_cast<int64_t>(units_.size());
  const int64_t wanted = (4 * team_.size() + row_units - 1) / row_units;
  const int64_t groups = team_.size() == 1 ? 1 : std::min(wanted, call.panels);
  const int64_t cost = product.offsets.back() * depth * columns / (8 * row_units * groups) + 1;
  team_.units(row_units * groups, cost, [&](int64_t unit, int thread) {
    const int64_t group = unit % groups;
    compute(call, units_[static_cast<size_t>(unit / groups)], call.panels * group / groups,
            call.panels * (group + 1) / groups, thread);
  });
}

void RowProducts::compute(const Call& call, const Unit& unit, int64_t panel_begin,
                          int64_t panel_end, int thread) {
  const RowProduct& product = call.product;
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

  const float* panels = call.packed + (unit.expert * call.panels + panel_begin) * call.depth * tile;
  // Added to y itself only where it is the direct target.
  const bool add_to_result = direct && product.write == Write::kAccumulate;
  for (int64_t k = 0; k < call.depth; k += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, call.depth - k);
    for (int64_t row = in_place; row < rows; ++row) {
      const int64_t i = unit.row_begin + row;
      const int64_t source = product.x_index == nullptr ? i : product.x_index[i];
      std::memcpy(left + (row - in_place) * kLeftStride, product.x + source * call.depth + k,
                  static_cast<size_t>(depth) * sizeof(float));
    }
    const float* rows_in_place = product.x + unit.row_begin * call.depth + k;
    for (int64_t panel = 0; panel < panel_end - panel_begin; ++panel) {
      const int64_t column = panel * tile;
      const int64_t columns = std::min(tile, column_end - column_begin - column);
      const float* packed = panels + (panel * call.depth + k) * tile;
      const bool accumulate = k > 0 || add_to_result;
      loops_.product(rows_in_place, call.depth, in_place, packed, depth, result + column,
                     result_stride, columns, accumulate);
      loops_.product(left, kLeftStride, rows - in_place, packed, depth,
                     result + in_place * result_stride + column, result_stride, columns,
                     accumulate);
    }
  }
  finish(call, unit, column_begin, column_end, result, result_stride);
}

// The activation, and the way of scattered rows to their places.
void RowProducts::finish(const Call& call, const Unit& unit, int64_t column_begin,
                         int64_t column_end, const float* result, int64_t result_stride) {
  const RowProduct& product = call.product;
  const int kind = static_cast<int>(product.activation);
  const bool in_place = product.y_index == nullptr && product.pre_activation == nullptr;
  if (in_place && product.activation == Activation::kNone) return;
  const int64_t columns = column_end - column_begin;
  for (int64_t i = unit.row_begin; i < unit.row_end; ++i) {
    const float* row = result + (i - unit.row_begin) * result_stride;
    const int64_t target = product.y_index == nullptr ? i : product.y_index[i];
    float* y = product.y + target * call.columns + column_begin;
    loops_.activation(kind, columns, row, y);
    if (product.y_index != nullptr && product.y_scale != nullptr) {
      loops_.scale(columns, y, product.y_scale[i], y);
    }
  }
}

}  // namespace switchyard::cpu
