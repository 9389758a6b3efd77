// The loops of vector_loops.h, included by one translation unit per instruction set, each with its
// own compiler flags. Everything here is static or in an anonymous namespace, and no header with
// code is included, so that nothing compiled for a newer processor can leak into the program.
#include "backends/cpu/vector_loops.h"

namespace switchyard::cpu {
namespace {

#include "backends/cpu/vector_loops_math.h"
#include "backends/cpu/vector_loops_product.h"
#include "backends/cpu/vector_loops_rows.h"

}  // namespace

const VectorLoops SWITCHYARD_LOOPS = {
    .name = SWITCHYARD_LOOPS_NAME,
    .tile_rows = kTileRows,
    .tile_columns = kTileColumns,
    .product = product<float>,
    .product_transposed = product_transposed,
    .pack_panel = pack_panel,
    .product_bf16 = product<uint16_t>,
    .pack_panel_bf16 = pack_panel_bf16,
    .multiply_adds = multiply_adds,
    .product_of_depths = product_of_depths,
    .spread_rows = spread_rows,
    .spread_columns = spread_columns,
    .widen = widen,
    .narrow = narrow,
    .add = add,
    .scale = scale,
    .add_scaled = add_scaled,
    .dot = dot,
    .sum_of_squares = sum_of_squares,
    .sum_of_squares_f64 = sum_of_squares_f64,
    .add_to_ordered = add_to_ordered,
    .of_ordered = of_ordered,
    .exp = exp_loop,
    .activation = activation,
    .activation_backward = activation_backward,
    .scale_by_row = scale_by_row,
    .rms_norm_backward = rms_norm_backward,
    .rotate = rotate,
    .dot3 = dot3,
    .softmax = softmax,
    .exp_sum = exp_sum,
    .softmax_backward = softmax_backward,
    .attention_weights = attention_weights,
    .attention_gradient = attention_gradient,
    .uniform = uniform,
    .dropout = dropout,
    .multiply = multiply,
    .jitter = jitter,
    .adamw = adamw,
    .sgd = sgd,
    .add_squares = add_squares,
    .decay_squares = decay_squares,
    .divide_by_root = divide_by_root,
    .decayed_step = decayed_step,
};

}  // namespace switchyard::cpu
