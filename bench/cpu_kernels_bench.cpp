// Times each operation of a small Switch model's step on the CPU backend in float32. Usage:
// bench_cpu_kernels [Google Benchmark's options]; SWITCHYARD_BENCH_THREADS: default 2.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "bench_backend.h"

namespace switchyard {
namespace {

void fill_normal(TensorView x, uint64_t seed, float scale) {
  float* data = x.data<float>();
  // A short period is random enough for timing.
  constexpr int64_t kPeriod = 4093;
  for (int64_t i = 0; i < x.elements(); ++i) {
    data[i] = i < kPeriod ? scale * static_cast<float>(random_normal({.seed = seed}, 0, 0,
                                                                     static_cast<uint32_t>(i)))
                          : data[i - kPeriod];
  }
}

Tensor normal(const Shape& shape, uint64_t seed = 1, float scale = 1.0f) {
  Tensor x(DType::kFloat32, shape);
  fill_normal(x, seed, scale);
  return x;
}

std::unique_ptr<Weight> normal_weight(const Shape& shape, uint64_t seed = 2) {
  auto weight = std::make_unique<Weight>("w", WeightRole::kDense, DType::kFloat32, shape,
                                         HostMemory::instance());
  fill_normal(weight->master(), seed, 0.05f);
  return weight;
}

// A small Switch model's step: 64 sequences of 128 tokens, D 256, F 1024, 8 heads, 8 experts.
constexpr int64_t kSequences = 64, kLength = 128, kTokens = kSequences * kLength, kWidth = 256;
constexpr int64_t kFfn = 1024, kHeads = 8, kExperts = 8, kVocabulary = 8192, kGroups = 8;

// Tensors of the step, by name, made once.
struct Step {
  Step() {
    std::iota(token.data<int64_t>(), token.data<int64_t>() + kTokens, int64_t{0});
    for (int64_t t = 0; t < kTokens; ++t) {
      ids.data<int32_t>()[t] = static_cast<int32_t>(
          random_word({.seed = 4}, 0, 0, static_cast<uint32_t>(t)) % kVocabulary);
      target.data<int32_t>()[t] = ids.data<int32_t>()[t];
    }
    for (int64_t g = 0; g <= kGroups; ++g) groups.push_back(kTokens / kGroups * g);
    for (int64_t b = 0; b <= kGroups; ++b) sequence_groups.push_back(kSequences / kGroups * b);
    statistics = allocate_statistics(arena, kGroups, kExperts);
    softmax(ctx(), logits, probs);
    choose_top_k(ctx(), probs, {}, expert);
    routing_statistics(ctx(), logits, probs, expert, {}, groups, statistics);
    plan_capacity(ctx(), expert, {}, groups, kExperts, kTokens / kGroups / kExperts * 2, kept);
    order_choices(ctx(), kept, kExperts, source, position);
    const int32_t* k = kept.data<int32_t>();
    rows = std::count_if(k, k + kTokens, [](int32_t e) { return e >= 0; });
  }

  Arena arena{HostMemory::instance()};
  Tensor x = normal({kTokens, kWidth}), dy = normal({kTokens, kWidth}, 5);
  Tensor y = normal({kTokens, kWidth}, 6), inner = normal({kTokens, kFfn}, 7);
  Tensor dinner = normal({kTokens, kFfn}, 8), inverse_rms = normal({kTokens}, 9);
  Tensor logits = normal({kTokens, kExperts}, 10), probs = normal({kTokens, kExperts}, 11);
  Tensor dprobs = normal({kTokens, kExperts}, 12), weight = normal({kTokens, 1}, 13);
  Tensor dweight = normal({kTokens, 1}, 14);
  Tensor losses{DType::kFloat64, {kTokens}}, token{DType::kInt64, {kTokens}};
  Tensor ids{DType::kInt32, {kTokens}}, target{DType::kInt32, {kTokens}};
  Tensor expert{DType::kInt32, {kTokens, 1}}, kept{DType::kInt32, {kTokens, 1}};
  Tensor source{DType::kInt32, {kTokens}}, position{DType::kInt32, {kTokens, 1}};
  Tensor lse = normal({kSequences, kHeads, kLength}), bias = normal({kHeads, 2 * kLength - 1}, 16);
  Tensor dbias = normal({kGroups, kHeads, 2 * kLength - 1}, 17);
  Tensor dq = normal({kTokens, kWidth}), dk = normal({kTokens, kWidth});
  Tensor dv = normal({kTokens, kWidth});
  std::unique_ptr<Weight> norm = normal_weight({kWidth});
  std::unique_ptr<Weight> table = normal_weight({kVocabulary, kWidth});
  std::vector<int64_t> groups, sequence_groups;
  RoutingStatistics statistics;
  int64_t rows = 0;

  RandomRows random(Purpose purpose) const {
    return {{.seed = 1, .step = 2, .layer = 3, .purpose = purpose}, token};
  }
  static TensorView as_heads(const Tensor& x) {
    return x.view().reshape({kSequences, kLength, kHeads, kWidth / kHeads});
  }
  AttentionInput attention_input() const {
    AttentionInput in{.q = as_heads(x), .k = as_heads(dy), .v = as_heads(y), .distance_bias = bias};
    in.dropout_rate = 0.1;
    in.random = random(Purpose::kAttentionDropout);
    return in;
  }
  TensorView first_rows(const Tensor& t) const { return t.view().rows(0, rows); }
};

Step& step() {
  static Step step;
  return step;
}

using Operation = void (*)(Step&);

void time_operation(benchmark::State& state, Operation operation) {
  Step& s = step();
  operation(s);
  for (auto _ : state) operation(s);
}

const std::vector<std::pair<const char*, Operation>> kOperations = {
    {"rms_norm", [](Step& s) { rms_norm(ctx(), s.x, *s.norm, 1e-6, s.y, s.inverse_rms); }},
    {"rms_norm_backward",
     [](Step& s) {
       rms_norm_backward(ctx(), s.x, s.inverse_rms, s.dy, s.groups, s.y, Write::kOverwrite,
                         *s.norm);
     }},
    {"add", [](Step& s) { add(ctx(), s.x, s.dy, s.y); }},
    {"add_in_place", [](Step& s) { add(ctx(), s.y, s.dy, s.y); }},
    {"relu_backward",
     [](Step& s) { activation_backward(ctx(), Activation::kRelu, s.inner, s.dinner, s.dinner); }},
    {"gelu_backward",
     [](Step& s) { activation_backward(ctx(), Activation::kGelu, s.inner, s.dinner, s.dinner); }},
    {"dropout_width",
     [](Step& s) { dropout(ctx(), s.x, 0.1, s.random(Purpose::kFfnOutputDropout), s.y); }},
    {"dropout_ffn",
     [](Step& s) { dropout(ctx(), s.inner, 0.1, s.random(Purpose::kFfnInnerDropout), s.dinner); }},
    {"jitter", [](Step& s) { jitter(ctx(), s.x, 0.01, s.random(Purpose::kJitter), s.y); }},
    {"embedding", [](Step& s) { embedding(ctx(), *s.table, s.ids, s.y); }},
    {"embedding_gradient",
     [](Step& s) { embedding_gradient(ctx(), s.ids, s.dy, s.groups, *s.table); }},
    {"attention",
     [](Step& s) { attention(ctx(), s.attention_input(), Step::as_heads(s.dq), s.lse); }},
    {"attention_no_dropout",
     [](Step& s) {
       AttentionInput in = s.attention_input();
       in.dropout_rate = 0;
       attention(ctx(), in, Step::as_heads(s.dq), s.lse);
     }},
    {"attention_backward",
     [](Step& s) {
       attention_backward(ctx(), s.attention_input(), Step::as_heads(s.x), s.lse,
                          Step::as_heads(s.dy), s.sequence_groups, Step::as_heads(s.dq),
                          Step::as_heads(s.dk), Step::as_heads(s.dv), s.dbias);
     }},
    {"linear_cross_entropy",
     [](Step& s) {
       linear_cross_entropy(ctx(), {}, s.x, *s.table, s.target, {}, s.losses, {}, {});
     }},
    {"linear_cross_entropy_gradient",
     [](Step& s) {
       linear_cross_entropy(ctx(), {.gradient_scale = 1e-4}, s.x, *s.table, s.target, s.groups,
                            s.losses, {}, s.dq);
     }},
    {"softmax", [](Step& s) { softmax(ctx(), s.logits, s.probs); }},
    {"softmax_backward",
     [](Step& s) { softmax_backward(ctx(), s.probs, s.dprobs, s.dprobs, Write::kOverwrite); }},
    {"choose_top_k", [](Step& s) { choose_top_k(ctx(), s.probs, {}, s.expert); }},
    {"routing_statistics",
     [](Step& s) {
       routing_statistics(ctx(), s.logits, s.probs, s.expert, {}, s.groups, s.statistics);
     }},
    {"load_balance_gradient",
     [](Step& s) {
       load_balance_gradient(ctx(), {}, s.groups, s.statistics, 1, 1, 1e-2, s.dprobs);
     }},
    {"router_z_gradient",
     [](Step& s) {
       router_z_gradient(ctx(), s.logits, {}, s.groups, s.statistics, 1e-3, s.dprobs);
     }},
    {"plan_capacity",
     [](Step& s) { plan_capacity(ctx(), s.expert, {}, s.groups, kExperts, 256, s.kept); }},
    {"plan_capacity_priority",
     [](Step& s) { plan_capacity(ctx(), s.expert, s.weight, s.groups, kExperts, 256, s.kept); }},
    {"order_choices",
     [](Step& s) { order_choices(ctx(), s.kept, kExperts, s.source, s.position); }},
    {"gather_rows", [](Step& s) { gather_rows(ctx(), s.x, s.source, 1, s.first_rows(s.y)); }},
    {"combine_rows",
     [](Step& s) { combine_rows(ctx(), s.first_rows(s.x), s.position, s.weight, s.y); }},
    {"combine_rows_backward",
     [](Step& s) {
       combine_rows_backward(ctx(), s.first_rows(s.x), s.source, s.position, s.weight, s.dy,
                             s.first_rows(s.y), s.dweight);
     }},
    {"sum_of_squares_8M",
     [](Step& s) { sum_of_squares(ctx(), s.inner.view(), s.losses.view().rows(0, 1)); }},
    {"adamw_2M",
     [](Step& s) { adamw(ctx(), {.learning_rate = 1e-3, .step = 10}, s.dq, s.x, s.dk, s.dv); }},
};

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  for (const auto& [name, operation] : switchyard::kOperations) {
    benchmark::RegisterBenchmark(
        name,
        [operation = operation](benchmark::State& s) { switchyard::time_operation(s, operation); })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime()
        ->MinTime(0.2);
  }
  benchmark::AddCustomContext("processor", switchyard::describe_cpu(switchyard::threads()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
