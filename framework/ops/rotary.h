// Rotary position embedding (Su 2021): the two halves of a head's vector are the coordinates of d/2
// points, each turned by an angle proportional to the token's position, so that a product q.k
// depends on the distance alone. Halves, not neighbouring pairs, as in Mixtral and Hugging Face.
#pragma once

#include "ops/exec_context.h"

namespace switchyard {

enum class Rotation : uint8_t { kForward, kBackward };

class Rotary {
 public:
  virtual ~Rotary() = default;

  // table[t] = cos(a_0), ..., cos(a_{d/2-1}), sin(a_0), ..., with a_i = position[t] theta^(-2i/d),
  // both factors and the product rounded to float32 as Hugging Face does.
  //   position  int32 [T]
  //   table     accurate dtype [T, d], d even
  virtual void rotary_table(ExecContext& ctx, TensorView position, double theta,
                            TensorView table) = 0;
  // With c, s of token t and x = (x1, x2): y = (x1 c - x2 s, x2 c + x1 s). kBackward turns the
  // other way: the gradient of x from that of y.
  //   x, y  [T, H, d]; y may be x
  virtual void rotate(ExecContext& ctx, TensorView x, TensorView table, Rotation rotation,
                      TensorView y) = 0;
};

void rotary_table(ExecContext& ctx, TensorView position, double theta, TensorView table);
void rotate(ExecContext& ctx, TensorView x, TensorView table, Rotation rotation, TensorView y);

// a_i / position, see Rotary::rotary_table.
float rotary_frequency(int64_t i, int64_t width, double theta);

}  // namespace switchyard
