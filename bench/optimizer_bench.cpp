// How near an optimizer step comes to what the memory can do: AdamW, Adafactor and the pass of the
// gradient norm over about 100 M parameters of a Switch model's shapes. The share is that of the
// time which their bytes need at the bandwidth of their kind, measured in turn in the same run:
// that of reading a large tensor for what is only read, that of scaling one in place for what is
// read and written. The best of some rounds counts. Prints a line each, ending in `met` or `short`
// of 70 %. Usage: bench_optimizer; SWITCHYARD_BENCH_THREADS: default 2.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/timer.h"
#include "bench_backend.h"
#include "collectives/single.h"
#include "optim/adafactor.h"
#include "optim/adamw.h"
#include "optim/weight_replicas.h"

namespace switchyard {
namespace {

constexpr int64_t kModel = 768, kInner = 3072, kExperts = 8, kVocabulary = 8192;
constexpr int kRounds = 7;
constexpr double kTarget = 0.70;

// The weights of 4 blocks, two of them mixtures, with an embedding.
class Parameters {
 public:
  Parameters() {
    add("embedding", WeightRole::kEmbedding, {kVocabulary, kModel});
    for (int block = 0; block < 4; ++block) {
      for (int i = 0; i < 4; ++i) add("attention", WeightRole::kDense, {kModel, kModel});
      for (int i = 0; i < 2; ++i) add("norm", WeightRole::kNorm, {kModel});
      if (block % 2 == 0) {
        add("wi", WeightRole::kDense, {kInner, kModel});
        add("wo", WeightRole::kDense, {kModel, kInner});
      } else {
        add("router", WeightRole::kRouter, {kExperts, kModel});
        add("*.wi", WeightRole::kExpert, {kExperts, kInner, kModel});
        add("*.wo", WeightRole::kExpert, {kExperts, kModel, kInner});
      }
    }
  }
  const std::vector<Weight*>& list() const { return list_; }
  int64_t count() const { return count_; }

 private:
  void add(const std::string& name, WeightRole role, const Shape& shape) {
    const ExpertRange experts =
        role == WeightRole::kExpert ? ExpertRange{0, kExperts, kExperts} : ExpertRange{};
    owned_.push_back(std::make_unique<Weight>(name, role, DType::kFloat32, shape,
                                              HostMemory::instance(), experts));
    Weight& weight = *owned_.back();
    weight.next_gradient_write();
    for (const TensorView x : {weight.master(), weight.gradient()}) {
      std::fill_n(x.data<float>(), x.elements(), 0.01f);
    }
    list_.push_back(&weight);
    count_ += shape.elements();
  }

  std::vector<std::unique_ptr<Weight>> owned_;
  std::vector<Weight*> list_;
  int64_t count_ = 0;
};

struct Measured {
  std::string name;
  double read, rewritten;  // bytes that one pass only reads; that it reads and writes, both counted
  std::function<void()> pass;
  double best_s = std::numeric_limits<double>::infinity();

  double bandwidth() const { return (read + rewritten) / best_s; }
};

void run() {
  const auto world = make_single_collectives();
  const Groups groups = make_groups(*world, 1);
  const auto kernels = make_cpu_kernels(threads());
  const auto stream = kernels->make_stream();
  Arena scratch(kernels->memory());
  ExecContext ctx{*kernels, *stream, scratch};

  const Parameters parameters;
  const auto count = static_cast<double>(parameters.count());
  AdamW adamw({}, parameters.list());
  Adafactor adafactor({}, parameters.list(), groups);
  const WeightReplicas replicas(groups, parameters.list());
  const Tensor large(DType::kFloat32, {int64_t{1} << 27});
  std::fill_n(large.data<float>(), large.elements(), 1.0f);
  const auto large_bytes = static_cast<double>(large.size_bytes());
  const Tensor largest(DType::kFloat64, {1});
  const UpdateStep update{.number = 3, .learning_rate = 1e-4, .gradient_scale = 0.5};

  std::vector<Measured> all = {
      {"scaling in place", 0, 2 * large_bytes, [&] { scale(ctx, large, 1.0, large); }},
      {"reading", large_bytes, 0, [&] { sum_of_squares(ctx, large, largest); }},
      // Weight and two moments are rewritten.
      {"AdamW", 4 * count, 24 * count, [&] { adamw.step(ctx, update); }},
      // The gradient is read three times, the weight twice, the second time to be rewritten.
      {"Adafactor", 16 * count, 8 * count, [&] { adafactor.step(ctx, update); }},
      {"gradient norm", 4 * count, 0, [&] { replicas.gradient_norm(ctx); }},
  };
  for (int round = 0; round <= kRounds; ++round) {
    for (Measured& measured : all) {
      const Timer timer;
      measured.pass();
      if (round > 0) measured.best_s = std::min(measured.best_s, timer.seconds());
    }
  }
  const double rewriting = all[0].bandwidth(), reading = all[1].bandwidth();
  fmt::print("{}, {:.0f} M parameters\n", describe_cpu(threads()), count / 1e6);
  for (size_t i = 0; i < all.size(); ++i) {
    const double needed_s = all[i].read / reading + all[i].rewritten / rewriting;
    const double share = needed_s / all[i].best_s;
    fmt::print("{:18} {:7.1f} ms  {:5.1f} GB/s", all[i].name, 1e3 * all[i].best_s,
               all[i].bandwidth() / 1e9);
    if (i >= 2) fmt::print("  {:3.0f} % {}", 100 * share, share >= kTarget ? "met" : "short");
    fmt::print("\n");
  }
}

}  // namespace
}  // namespace switchyard

int main() {
  switchyard::run();
  return 0;
}
