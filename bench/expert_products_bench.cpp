// Times the expert products of the CPU backend, forward and backward, in float32 and bfloat16,
// against a loop of dnnl_sgemm (float32) over the experts on as many threads and against the
// processor's rate of fused multiply-adds, all in turn within one iteration. Counters, of minima:
//   GFLOPS     ours
//   vs_onednn  oneDNN's time over ours: above 1 is faster than oneDNN
//   of_fma     our rate over that of float32 multiply-adds in registers
// Usage: bench_expert_products [Google Benchmark's options]; SWITCHYARD_BENCH_THREADS: default 2.
#include <benchmark/benchmark.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/vector_loops.h"
#include "base/random.h"
#include "bench_backend.h"
#include "tensor/bfloat16.h"

namespace switchyard {
namespace {

constexpr int64_t kRounds = 100'000;

// All threads' multiply-adds on registers, what no product can exceed; returns their floating-point
// operations.
double multiply_adds() {
  const cpu::VectorLoops& loops = cpu::loops_of(cpu::choose_isa());
#pragma omp parallel num_threads(threads())
  benchmark::DoNotOptimize(loops.multiply_adds(kRounds, 0.5f));
  return 2.0 * static_cast<double>(loops.tile_rows * loops.tile_columns * kRounds) * threads();
}

// With one thread the processor's, which other programs on the machine disturb less.
double seconds(const std::function<void()>& body) {
  const auto now = [] {
    timespec time{};
    clock_gettime(threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double begin = now();
  body();
  return now() - begin;
}

// Of the iterations' times: the others were disturbed.
double least(const std::vector<double>& times) {
  return *std::min_element(times.begin(), times.end());
}

// Our calls, oneDNN's and multiply-adds in turn.
void compare(benchmark::State& state, double flops, const std::function<void()>& ours,
             const std::function<void()>& theirs) {
  ours();
  theirs();
  std::vector<double> own, other, bare;
  double bare_flops = 0;
  for (auto _ : state) {
    own.push_back(seconds(ours));
    other.push_back(seconds(theirs));
    bare.push_back(seconds([&] { bare_flops = multiply_adds(); }));
    state.SetIterationTime(own.back());
  }
  const double rate = flops / least(own);
  state.counters["GFLOPS"] = rate * 1e-9;
  state.counters["vs_onednn"] = least(other) / least(own);
  if (bare_flops > 0) state.counters["of_fma"] = rate / (bare_flops / least(bare));
}

// A short period of normal numbers is random enough for timing.
Tensor normal(DType dtype, const Shape& shape, uint64_t seed, float scale = 1.0f) {
  constexpr int64_t kPeriod = 4093;
  std::vector<float> numbers;
  for (uint32_t i = 0; i < kPeriod; ++i) {
    numbers.push_back(scale * static_cast<float>(random_normal({.seed = seed}, 0, 0, i)));
  }
  Tensor x(dtype, shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const float number = numbers[static_cast<size_t>(i % kPeriod)];
    if (dtype == DType::kFloat32) {
      x.data<float>()[i] = number;
    } else {
      x.data<BFloat16>()[i] = BFloat16(number);
    }
  }
  return x;
}

// A stacked weight with what goes in and comes out of it, and the same for oneDNN.
struct Product {
  Product(int64_t expert_count, int64_t expert_rows, int64_t in_width, int64_t out_width,
          DType dtype)
      : experts(expert_count),
        rows(expert_rows),
        in(in_width),
        out(out_width),
        x(normal(dtype, {experts * rows, in}, 1)),
        y(normal(dtype, {experts * rows, out}, 3)),
        x_float(DType::kFloat32, x.shape()),
        y_float(DType::kFloat32, y.shape()),
        weight("w", WeightRole::kDense, DType::kFloat32, {experts, out, in},
               HostMemory::instance()) {
    copy(ctx(), normal(DType::kFloat32, weight.shape(), 2, 0.05f), weight.master());
    fill_zero(ctx(), x_float);
    fill_zero(ctx(), y_float);
    for (int64_t e = 0; e <= experts; ++e) offsets.push_back(e * rows);
    ragged.offsets = offsets;
  }
  Product(const Product&) = delete;

  double flops() const { return 2.0 * static_cast<double>(experts * rows * in * out); }

  void forward() { forward_to(y, {}); }
  void forward_to(TensorView target, const Epilogue& epilogue) {
    grouped_linear(ctx(), x, RowOrder::kCompact, weight, ragged, target, RowOrder::kCompact,
                   epilogue);
  }
  void input_gradient() {
    grouped_input_gradient(ctx(), y, RowOrder::kCompact, weight, ragged, x, RowOrder::kCompact);
  }
  void weight_gradient() {
    weight.begin_step();
    grouped_weight_gradient(ctx(), x, RowOrder::kCompact, y, RowOrder::kCompact, ragged, weight);
  }

  // The same by dnnl_sgemm, one expert after the other.
  void dnnl_forward() {
    each_expert([&](float* xe, float* ye, int64_t e) {
      sgemm('N', 'T', rows, out, in, xe, in, weight.master().data<float>() + e * in * out, in, ye,
            out);
    });
  }
  void dnnl_input_gradient() {
    each_expert([&](float* xe, float* ye, int64_t e) {
      sgemm('N', 'N', rows, in, out, ye, out, weight.master().data<float>() + e * in * out, in, xe,
            in);
    });
  }
  void dnnl_weight_gradient() {
    each_expert([&](float* xe, float* ye, int64_t e) {
      sgemm('T', 'N', out, in, rows, ye, out, xe, in,
            weight.gradient().data<float>() + e * in * out, in);
    });
  }

  template <typename Body>
  void each_expert(const Body& body) {
    omp_set_num_threads(threads());
    for (int64_t e = 0; e < experts; ++e) {
      body(x_float.data<float>() + e * rows * in, y_float.data<float>() + e * rows * out, e);
    }
    omp_set_num_threads(1);
  }
  static void sgemm(char transposed_a, char transposed_b, int64_t m, int64_t n, int64_t k,
                    const float* a, int64_t a_stride, const float* b, int64_t b_stride, float* c,
                    int64_t c_stride) {
    if (dnnl_sgemm(transposed_a, transposed_b, m, n, k, 1.0f, a, a_stride, b, b_stride, 0.0f, c,
                   c_stride) != dnnl_success) {
      std::abort();
    }
  }

  int64_t experts, rows, in, out;
  Tensor x, y, x_float, y_float;
  Weight weight;
  std::vector<int64_t> offsets;
  RaggedRows ragged;
};

DType dtype_of(const benchmark::State& state) {
  return state.range(4) == 32 ? DType::kFloat32 : DType::kBFloat16;
}

template <auto kOurs, auto kTheirs>
void time_product(benchmark::State& state) {
  Product p(state.range(0), state.range(1), state.range(2), state.range(3), dtype_of(state));
  p.weight_gradient();  // makes the gradient's memory
  compare(
      state, p.flops(), [&] { (p.*kOurs)(); }, [&] { (p.*kTheirs)(); });
}

// A whole network of experts, forward and backward: all six products, with ReLU's derivative in
// ours and nothing but the products in oneDNN's.
void time_network(benchmark::State& state) {
  const int64_t experts = state.range(0), rows = state.range(1);
  Product wi(experts, rows, state.range(2), state.range(3), dtype_of(state));
  Product wo(experts, rows, state.range(3), state.range(2), dtype_of(state));
  const Tensor pre_activation(wi.y.dtype(), wi.y.shape());
  const auto ours = [&] {
    wi.forward_to(wo.x, {Activation::kRelu, pre_activation});
    wo.forward();
    wo.weight_gradient();
    wo.input_gradient();
    activation_backward(ctx(), Activation::kRelu, pre_activation, wo.x, wi.y);
    wi.weight_gradient();
    wi.input_gradient();
  };
  const auto theirs = [&] {
    for (Product* p : {&wi, &wo}) {
      p->dnnl_forward();
      p->dnnl_weight_gradient();
      p->dnnl_input_gradient();
    }
  };
  compare(state, 3 * (wi.flops() + wo.flops()), ours, theirs);
}

// experts, rows each, in, out, bits of an activation; the last rows are dense layers and a
// vocabulary head.
void shapes(benchmark::internal::Benchmark* b) {
  for (const int64_t bits : {32, 16}) {
    // One expert: short enough to find undisturbed moments on a busy machine.
    b->Args({1, 256, 768, 3072, bits})->Args({1, 256, 3072, 768, bits});
    b->Args({8, 256, 768, 3072, bits})->Args({8, 256, 3072, 768, bits});
    b->Args({64, 32, 768, 3072, bits})->Args({64, 32, 3072, 768, bits});
    b->Args({1, 8192, 256, 256, bits})->Args({1, 8192, 256, 1024, bits});
    b->Args({1, 2048, 512, 8192, bits});
  }
  b->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(15);
}
BENCHMARK(time_product<&Product::forward, &Product::dnnl_forward>)->Name("forward")->Apply(shapes);
BENCHMARK(time_product<&Product::input_gradient, &Product::dnnl_input_gradient>)
    ->Name("input_gradient")
    ->Apply(shapes);
BENCHMARK(time_product<&Product::weight_gradient, &Product::dnnl_weight_gradient>)
    ->Name("weight_gradient")
    ->Apply(shapes);
BENCHMARK(time_network)
    ->Name("network")
    ->Args({8, 256, 768, 3072, 32})
    ->Args({64, 32, 768, 3072, 32})
    ->Args({8, 256, 768, 3072, 16})
    ->Args({64, 32, 768, 3072, 16})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(10);

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  benchmark::AddCustomContext("processor", switchyard::describe_cpu(switchyard::threads()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
