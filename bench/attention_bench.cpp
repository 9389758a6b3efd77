// Times the CPU backend's attention by sequence length: 8 heads of width 64, a distance bias where
// nothing is causal, as many sequences as make 4,096 tokens, at most 8. Counters: GFLOP/s of the
// products that the mask leaves, those that backward computes again not counted. Usage:
// bench_attention [Google Benchmark's options]; SWITCHYARD_BENCH_THREADS: default 2.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/random.h"
#include "bench_backend.h"
#include "tensor/bfloat16.h"

namespace switchyard {
namespace {

Tensor normal(DType dtype, const Shape& shape, uint64_t seed) {
  Tensor x(dtype, shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const auto number =
        static_cast<float>(random_normal({.seed = seed}, 0, 0, static_cast<uint32_t>(i)));
    if (dtype == DType::kBFloat16) {
      x.data<BFloat16>()[i] = BFloat16(number);
    } else {
      x.data<float>()[i] = number;
    }
  }
  return x;
}

constexpr int64_t kHeads = 8, kWidth = 64;

struct Case {
  Case(int64_t row_length, bool is_causal, DType dtype)
      : length(row_length),
        sequences(std::clamp<int64_t>(4096 / length, 1, 8)),
        causal(is_causal),
        shape{sequences, length, kHeads, kWidth},
        q(normal(dtype, shape, 1)),
        k(normal(dtype, shape, 2)),
        v(normal(dtype, shape, 3)),
        dout(normal(dtype, shape, 4)),
        bias(normal(DType::kFloat32, {kHeads, 2 * length - 1}, 5)),
        out(dtype, shape),
        dq(dtype, shape),
        dk(dtype, shape),
        dv(dtype, shape),
        log_sum_exp(DType::kFloat32, {sequences, kHeads, length}),
        dbias(DType::kFloat32, {1, kHeads, 2 * length - 1}),
        leaves{0, sequences} {}

  AttentionInput input() const {
    AttentionInput in{.q = q, .k = k, .v = v, .scale = 0.125};
    if (!causal) in.distance_bias = bias;
    in.mask.causal = causal;
    return in;
  }
  void forward() { attention(ctx(), input(), out, log_sum_exp); }
  void backward() {
    attention_backward(ctx(), input(), out, log_sum_exp, dout, leaves, dq, dk, dv,
                       causal ? TensorView() : TensorView(dbias));
  }
  double flops(int products) const {
    const int64_t pairs = causal ? length * (length + 1) / 2 : length * length;
    return 2.0 * products * static_cast<double>(sequences * kHeads * pairs * kWidth);
  }

  int64_t length, sequences;
  bool causal;
  Shape shape;
  Tensor q, k, v, dout, bias, out, dq, dk, dv, log_sum_exp, dbias;
  std::vector<int64_t> leaves;
};

void time(benchmark::State& state, void (Case::*pass)(), int products) {
  Case c(state.range(0), state.range(1) != 0,
         state.range(2) != 0 ? DType::kBFloat16 : DType::kFloat32);
  c.forward();
  (c.*pass)();
  for (auto _ : state) (c.*pass)();
  state.counters["GFLOPS"] =
      benchmark::Counter(c.flops(products) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void attention_forward(benchmark::State& state) { time(state, &Case::forward, 2); }
void attention_gradients(benchmark::State& state) { time(state, &Case::backward, 4); }

void lengths(benchmark::internal::Benchmark* b) {
  b->ArgNames({"length", "causal", "bfloat16"});
  b->ArgsProduct({{58, 128, 256, 1024, 4096}, {0, 1}, {0, 1}});
  b->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.2);
}
BENCHMARK(attention_forward)->Apply(lengths);
BENCHMARK(attention_gradients)->Apply(lengths);

}  // namespace
}  // namespace switchyard

BENCHMARK_MAIN();
