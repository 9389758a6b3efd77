// P1 to P3 of docs/performance.md: the feed-forward networks of a layer's experts, forward and
// backward, against what this machine could do at best and against oneDNN looped over the experts,
// all in turn, with caches flushed in between; the least of the repetitions counts. "Limit": the
// longer of the products at the ceiling of multiply-adds on registers and the counted bytes at the
// bandwidth of memory, both measured here too. Prints a line for each id.
// Usage: bench_expert_ffn [ID...], all by default; SWITCHYARD_BENCH_THREADS: default 2.
#include <fmt/core.h>
#include <immintrin.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backends/cpu/cpu_limits.h"
#include "base/random.h"
#include "base/timer.h"
#include "bench_backend.h"
#include "tensor/bfloat16.h"

namespace switchyard {
namespace {

constexpr int kRepetitions = 7;
constexpr int64_t kWidth = 768, kInner = 3072;

// Writes more than twice the last-level cache.
void flush_caches() {
  static const int64_t floats = [] {
    constexpr int64_t kUnknown = int64_t{64} << 20;
    const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return (size > 0 ? size : kUnknown) * 9 / 4 / static_cast<int64_t>(sizeof(float));
  }();
  static Tensor all(DType::kFloat32, {floats});
  fill_zero(ctx(), all);
}

// The least seconds of each work, all of them in turn.
std::vector<double> in_turn(const std::vector<std::function<void()>>& works) {
  std::vector<double> least(works.size(), std::numeric_limits<double>::infinity());
  for (const auto& work : works) work();
  for (int i = 0; i < kRepetitions; ++i) {
    for (size_t w = 0; w < works.size(); ++w) {
      flush_caches();
      const Timer timer;
      works[w]();
      least[w] = std::min(least[w], timer.seconds());
    }
  }
  return least;
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
};

// Four independent accumulators, as many as two by two tiles leave.
__attribute__((target("amx-tile,amx-bf16"))) void multiply_tiles(int64_t rounds) {
  const TileConfig config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
}

bool has_amx() { return cpu::choose_isa() == cpu::Isa::kAmx; }

double amx_flops() {
  constexpr int64_t kRounds = 1'000'000;
  constexpr double kOfRound = 4.0 * 2 * 16 * 16 * 32;
  const auto work = [] {
#pragma omp parallel num_threads(threads())
    multiply_tiles(kRounds);
  };
  return kOfRound * static_cast<double>(kRounds) * threads() / in_turn({work})[0];
}

// Of this machine: the most that was seen, before and after what is held against it.
struct Limits {
  double float_flops = 0, bf16_flops = 0, bytes_per_second = 0;

  void measure() {
    const DeviceLimits seen = cpu::measure_limits(threads(), cpu::choose_isa());
    float_flops = std::max(float_flops, seen.flops);
    bf16_flops = std::max(bf16_flops, has_amx() ? amx_flops() : seen.flops);
    bytes_per_second = std::max(bytes_per_second, seen.bytes_per_second);
  }
  double seconds(double flops, double bytes) const {
    return std::max(flops / bf16_flops, bytes / bytes_per_second);
  }
  std::string text() const {
    return fmt::format("{} {:.0f} GFLOP/s, memory {:.1f} GB/s", has_amx() ? "AMX" : "multiply-adds",
                       bf16_flops * 1e-9, bytes_per_second * 1e-9);
  }
};

struct Measured {
  std::vector<double> seconds;
  Limits limits;
};

Measured measure(const std::vector<std::function<void()>>& works) {
  Measured measured;
  measured.limits.measure();
  measured.seconds = in_turn(works);
  measured.limits.measure();
  return measured;
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

// The stacked weight of one of a network's two products, and the rows on both sides of it.
struct Layer {
  Layer(int64_t expert_count, int64_t expert_rows, int64_t in_width, int64_t out_width, DType dtype)
      : experts(expert_count),
        rows(expert_rows),
        in(in_width),
        out(out_width),
        x(normal(dtype, {experts * rows, in}, 1)),
        y(normal(dtype, {experts * rows, out}, 3)),
        weight("w", WeightRole::kDense, DType::kFloat32, {experts, out, in},
               HostMemory::instance()) {
    copy(ctx(), normal(DType::kFloat32, weight.shape(), 2, 0.05f), weight.master());
    for (int64_t e = 0; e <= experts; ++e) offsets.push_back(e * rows);
    ragged.offsets = offsets;
  }
  Layer(const Layer&) = delete;

  double products() const { return 2.0 * static_cast<double>(experts * rows * in * out); }

  int64_t experts, rows, in, out;
  Tensor x, y;
  Weight weight;
  std::vector<int64_t> offsets;
  RaggedRows ragged;
};

struct Network {
  Network(int64_t experts, int64_t rows, DType dtype)
      : wi(experts, rows, kWidth, kInner, dtype),
        wo(experts, rows, kInner, kWidth, dtype),
        pre_activation(dtype, wi.y.shape()) {}

  void forward_and_backward() {
    constexpr RowOrder kOrder = RowOrder::kCompact;
    grouped_linear(ctx(), wi.x, kOrder, wi.weight, wi.ragged, wo.x, kOrder,
                   {Activation::kRelu, pre_activation});
    grouped_linear(ctx(), wo.x, kOrder, wo.weight, wo.ragged, wo.y, kOrder);
    wo.weight.begin_step();
    grouped_weight_gradient(ctx(), wo.x, kOrder, wo.y, kOrder, wo.ragged, wo.weight);
    grouped_input_gradient(ctx(), wo.y, kOrder, wo.weight, wo.ragged, wi.y, kOrder);
    activation_backward(ctx(), Activation::kRelu, pre_activation, wi.y, wi.y);
    wi.weight.begin_step();
    grouped_weight_gradient(ctx(), wi.x, kOrder, wi.y, kOrder, wi.ragged, wi.weight);
    grouped_input_gradient(ctx(), wi.y, kOrder, wi.weight, wi.ragged, wi.x, kOrder);
  }

  double flops() const { return 3 * (wi.products() + wo.products()); }
  // That must come and go in bfloat16 with float32 gradients: weights once forward and once
  // backward; activations once forward and once backward, where written or read.
  double bytes() const {
    const auto weights = static_cast<double>(wi.weight.shape().elements() * 2);
    const auto narrow = static_cast<double>(wi.x.elements());
    const auto wide = static_cast<double>(wi.y.elements());
    const double forward = 2 * (narrow + 2 * wide + narrow);     // x; pre-activation, hidden; y
    const double backward = 2 * (3 * narrow + 2 * wide + wide);  // x, dy, dx; both again; dhidden
    return weights * (2 + 2 + 4) + forward + backward;
  }

  Layer wi, wo;
  Tensor pre_activation;
};

// The six products by oneDNN, one expert after the other, without activations: `Element` of rows
// and weights, float32 gradients of weights.
class DnnlNetwork {
 public:
  explicit DnnlNetwork(DType dtype) : dtype_(dtype) {}

  void run(const Network& network) {
    omp_set_num_threads(threads());
    for (const Layer* layer : {&network.wi, &network.wo}) {
      Buffers& buffers = buffers_.try_emplace(layer, *layer, dtype_).first->second;
      for (int64_t e = 0; e < layer->experts; ++e) run_expert(*layer, buffers, e);
    }
    omp_set_num_threads(1);
  }

 private:
  struct Buffers {
    Buffers(const Layer& layer, DType dtype)
        : x(normal(dtype, layer.x.shape(), 1)),
          y(normal(dtype, layer.y.shape(), 3)),
          weight(normal(dtype, layer.weight.shape(), 2, 0.05f)),
          gradient(DType::kFloat32, layer.weight.shape()) {}
    Tensor x, y, weight, gradient;
  };

  void run_expert(const Layer& layer, Buffers& buffers, int64_t e) {
    const int64_t rows = layer.rows, in = layer.in, out = layer.out;
    void* x = buffers.x.view().rows(e * rows, (e + 1) * rows).raw();
    void* y = buffers.y.view().rows(e * rows, (e + 1) * rows).raw();
    void* w = buffers.weight.view().rows(e, e + 1).raw();
    void* dw = buffers.gradient.view().rows(e, e + 1).raw();
    using Strides = dnnl::memory::dims;
    multiply({rows, out, in}, x, Strides{in, 1}, w, Strides{1, in}, y, dtype_);
    multiply({rows, in, out}, y, Strides{out, 1}, w, Strides{in, 1}, x, dtype_);
    multiply({out, in, rows}, y, Strides{1, out}, x, Strides{in, 1}, dw, DType::kFloat32);
  }

  struct Sizes {
    int64_t m, n, k;
  };
  // c [m, n] = a [m, k] b [k, n].
  void multiply(Sizes size, void* a, const dnnl::memory::dims& a_strides, void* b,
                const dnnl::memory::dims& b_strides, void* c, DType c_type) {
    const dnnl::memory::desc a_desc({size.m, size.k}, type(dtype_), a_strides);
    const dnnl::memory::desc b_desc({size.k, size.n}, type(dtype_), b_strides);
    const dnnl::memory::desc c_desc({size.m, size.n}, type(c_type), {size.n, 1});
    // Equal ones come from oneDNN's cache.
    const dnnl::matmul product({{a_desc, b_desc, c_desc}, engine_});
    product.execute(stream_, {{DNNL_ARG_SRC, dnnl::memory(a_desc, engine_, a)},
                              {DNNL_ARG_WEIGHTS, dnnl::memory(b_desc, engine_, b)},
                              {DNNL_ARG_DST, dnnl::memory(c_desc, engine_, c)}});
    stream_.wait();
  }
  static dnnl::memory::data_type type(DType dtype) {
    return dtype == DType::kFloat32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  }

  DType dtype_;
  std::map<const Layer*, Buffers> buffers_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
};

const char* verdict(bool met) { return met ? "met" : "short"; }
const char* verdict_of_amx(bool met) { return has_amx() ? verdict(met) : "no-hardware"; }

void many_rows_in_bf16() {
  Network network(8, 256, DType::kBFloat16);
  DnnlNetwork floats(DType::kFloat32), halves(DType::kBFloat16);
  const auto [seconds, limits] =
      measure({[&] { network.forward_and_backward(); }, [&] { floats.run(network); },
               [&] { halves.run(network); }});
  const double limit = limits.seconds(network.flops(), network.bytes());
  const double share = limit / seconds[0], times = std::min(seconds[1], seconds[2]) / seconds[0];
  fmt::print(
      "P1  expert FFN bf16 8 x 256: {:.1f} ms, limit {:.1f} ms ({}): {:.0f} % (>= 65 %); oneDNN "
      "f32 "
      "{:.1f} ms, bf16 {:.1f} ms: {:.2f}x (>= 8x)  {}\n",
      seconds[0] * 1e3, limit * 1e3, limits.text(), 100 * share, seconds[1] * 1e3, seconds[2] * 1e3,
      times, verdict_of_amx(share >= 0.65 && times >= 8));
}

void few_rows_in_bf16() {
  Network network(64, 32, DType::kBFloat16);
  const auto [seconds, limits] = measure({[&] { network.forward_and_backward(); }});
  const double limit = limits.seconds(network.flops(), network.bytes());
  fmt::print(
      "P2  expert FFN bf16 64 x 32: {:.1f} ms, limit {:.1f} ms ({}): {:.0f} % (>= 65 %)  {}\n",
      seconds[0] * 1e3, limit * 1e3, limits.text(), 100 * limit / seconds[0],
      verdict_of_amx(limit / seconds[0] >= 0.65));
}

void many_rows_in_f32() {
  Network network(8, 256, DType::kFloat32);
  DnnlNetwork floats(DType::kFloat32);
  const auto [seconds, limits] =
      measure({[&] { network.forward_and_backward(); }, [&] { floats.run(network); }});
  fmt::print(
      "P3  expert FFN f32 8 x 256: {:.1f} ms ({:.0f} of {:.0f} GFLOP/s), oneDNN f32 {:.1f} ms: "
      "{:.2f}x (>= 1.0x)  {}\n",
      seconds[0] * 1e3, network.flops() / seconds[0] * 1e-9, limits.float_flops * 1e-9,
      seconds[1] * 1e3, seconds[1] / seconds[0], verdict(seconds[1] >= seconds[0]));
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  const std::map<std::string, void (*)()> rows = {{"P1", switchyard::many_rows_in_bf16},
                                                  {"P2", switchyard::few_rows_in_bf16},
                                                  {"P3", switchyard::many_rows_in_f32}};
  std::vector<std::string> ids(argv + 1, argv + argc);
  if (ids.empty()) ids = {"P1", "P2", "P3"};
  for (const std::string& id : ids) {
    const auto row = rows.find(id);
    if (row == rows.end()) {
      fmt::print(stderr, "error: there is no {} here: P1 to P3\n", id);
      return 2;
    }
    row->second();
  }
  return 0;
}
