#include "ops/attention.h"

#include <algorithm>

#include "ops/argument_checks.h"

namespace switchyard {
namespace {

void check_mask(const internal::ArgumentChecks& check, const AttentionMask& mask, int64_t batch,
                int64_t queries, int64_t keys) {
  if (!mask.key_segment.absent()) {
    check.same("key segment", mask.key_segment, DType::kInt32, {batch, keys});
  }
  if (!mask.query_segment.absent()) {
    check.same("query segment", mask.query_segment, DType::kInt32, {batch, queries});
    SWITCHYARD_CHECK(!mask.key_segment.absent(), "attention: query segments without key segments");
  }
  SWITCHYARD_CHECK(mask.query_start >= 0 && (mask.query_start == 0 || mask.causal),
                   "attention: queries from position ", mask.query_start, " need a causal mask");
  SWITCHYARD_CHECK(mask.window >= 0 && (mask.window == 0 || mask.causal), "attention: a window of ",
                   mask.window, " needs a causal mask");
}

void check_input(const internal::ArgumentChecks& check, const AttentionInput& in) {
  check.activation("q", in.q, 4);
  check.activation("k", in.k, 4);
  const Shape &q = in.q.shape(), &k = in.k.shape();
  check.same("k", in.k, in.q.dtype(), {q[0], k[1], k[2], q[3]});
  check.same("v", in.v, in.q.dtype(), k);
  SWITCHYARD_CHECK(k[2] > 0 && q[2] % k[2] == 0, "attention: ", q[2], " query heads over ", k[2],
                   " key heads");
  SWITCHYARD_CHECK(k[1] > 0 || q[0] * q[1] == 0, "attention: queries ", q, " without a key ", k);
  if (!in.distance_bias.absent()) {
    check.same("distance bias", in.distance_bias, accurate(in.q.dtype()), {q[2], q[1] + k[1] - 1});
  }
  check_mask(check, in.mask, q[0], q[1], k[1]);
  SWITCHYARD_CHECK(in.dropout_rate >= 0 && in.dropout_rate < 1, "attention: dropout rate ",
                   in.dropout_rate);
  if (in.dropout_rate > 0) {
    check.same("random rows' token", in.random.token, DType::kInt64, {q[0] * q[1]});
    SWITCHYARD_CHECK(in.random.first_column == 0, "attention: a part of its keys' columns");
    SWITCHYARD_CHECK(q[2] <= 256, "attention: ", q[2], " heads; dropout keys tell 256 apart");
  }
}

// A product over the (query, key) pairs of all heads is as many operations as one [pairs, 1] x
// [1, d]. Pairs that the causal mask or the window excludes by position don't count, whether or not
// a backend skips them; padding and packing, which only the data know, do.
void count_pair_products(const ExecContext& ctx, int64_t products, const AttentionInput& in) {
  const int64_t queries = in.q.shape()[1], keys = in.k.shape()[1];
  int64_t pairs = queries * keys;
  if (in.mask.causal) {
    pairs = 0;
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t end = in.mask.query_start + i + 1;  // of the keys that are not later
      const int64_t window = in.mask.window > 0 ? in.mask.window : end;
      pairs += std::min(keys, end) - std::min(keys, std::max<int64_t>(0, end - window));
    }
  }
  ctx.count_products(products, in.q.shape()[0] * in.q.shape()[2] * pairs, in.q.shape()[3], 1);
}

}  // namespace

void attention(ExecContext& ctx, const AttentionInput& in, TensorView out, TensorView log_sum_exp) {
  const internal::ArgumentChecks check(ctx, "attention");
  check_input(check, in);
  const Shape& q = in.q.shape();
  check.same("out", out, in.q.dtype(), q);
  check.same("log_sum_exp", log_sum_exp, accurate(in.q.dtype()), {q[0], q[2], q[1]});
  if (out.elements() == 0) return;
  count_pair_products(ctx, 2, in);  // q k^T, and its softmax times v
  ctx.kernels.attention(ctx, in, out, log_sum_exp);
}

void attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
                        TensorView log_sum_exp, TensorView dout, LeafOffsets leaves, TensorView dq,
                        TensorView dk, TensorView dv, TensorView ddistance_bias) {
  const internal::ArgumentChecks check(ctx, "attention_backward");
  check_input(check, in);
  const Shape& q = in.q.shape();
  check.same("out", out, in.q.dtype(), q);
  check.same("log_sum_exp", log_sum_exp, accurate(in.q.dtype()), {q[0], q[2], q[1]});
  check.same("dout", dout, in.q.dtype(), q);
  check.boundaries("leaves", leaves, q[0]);
  check.same("dq", dq, in.q.dtype(), q);
  check.same("dk", dk, in.q.dtype(), in.k.shape());
  check.same("dv", dv, in.q.dtype(), in.v.shape());
  SWITCHYARD_CHECK(in.distance_bias.absent() == ddistance_bias.absent(),
                   "attention_backward: a distance bias and its gradient come together");
  if (!ddistance_bias.absent()) {
    check.same("ddistance_bias", ddistance_bias, accurate(in.q.dtype()),
               {static_cast<int64_t>(leaves.size()) - 1, q[2], q[1] + in.k.shape()[1] - 1});
  }
  // dv, the gradient of the softmax, dq and dk; computing the scores again is a backend's choice.
  count_pair_products(ctx, 4, in);
  // Also without queries: dk, dv and the bias's gradient are then zero.
  ctx.kernels.attention_backward(ctx, in, out, log_sum_exp, dout, leaves, dq, dk, dv,
                                 ddistance_bias);
}

}  // namespace switchyard
