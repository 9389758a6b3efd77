// Models small enough for a test, and what runs them on one rank.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/single.h"
#include "models/switch_t5.h"
#include "support/backends.h"
#include "support/op_case.h"
#include "trainer/workspace.h"

namespace switchyard::test {

// A backend and the dtype that weights and activations have on it.
struct Arithmetic {
  std::string name;  // "reference_float64"
  std::function<std::unique_ptr<Kernels>()> make_kernels;
  DType dtype = DType::kFloat32;
  bool usable = true;  // on this machine

  // The tolerance for this dtype.
  double tolerance(double float64, double float32) const {
    return dtype == DType::kFloat64 ? float64 : float32;
  }
};
inline void PrintTo(const Arithmetic& arithmetic, std::ostream* out) { *out << arithmetic.name; }

// The reference in float64, and every backend under test in float32.
std::vector<Arithmetic> arithmetics();
Arithmetic reference_float64();

struct ModelOptions {
  int64_t vocabulary = 0, d_model = 0, d_kv = 0, heads = 0, d_ff = 0;
  int64_t encoder_blocks = 0, decoder_blocks = 0;
  // Every how many blocks one is sparse, as transformers counts; 0: never.
  int64_t encoder_step = 0, decoder_step = 0;
  int64_t experts = 0, buckets = 32, max_distance = 128;
  double norm_epsilon = 1e-6;
  bool tie_embeddings = true;
  Activation activation = Activation::kRelu;
  double dropout = 0, expert_dropout = 0, jitter = 0, init_scale = 1;
  bool recompute = false;
  CapacityRule capacity;
  AuxiliaryLosses losses;
  LossOptions output_loss;
};

// Two blocks a stack, the second one a mixture; without experts yet.
ModelOptions tiny_options();

bool is_sparse(int64_t step, int64_t block);
Stack::Options stack_options(const ModelOptions& options, StackKind kind);
std::vector<std::unique_ptr<FeedForward>> make_feed_forwards(const ModelOptions& options,
                                                             StackKind kind, DType dtype,
                                                             Memory& memory, const Groups& groups,
                                                             uint64_t seed);
std::unique_ptr<SwitchT5> make_switch_t5(const ModelOptions& options, DType dtype, Memory& memory,
                                         const Groups& groups, uint64_t seed);

// A rank's kernels, groups, memory and model.
class ModelOnRank {
 public:
  // Every rank of the world calls it. `world` must outlive the result.
  ModelOnRank(const Arithmetic& arithmetic, const ModelOptions& options, Collectives& world,
              int expert_group_size, uint64_t seed = 0);

  LayerContext context(bool training, int64_t step = 0) {
    return workspace_.context(training, step);
  }
  Kernels& kernels() { return *kernels_; }
  const Groups& groups() const { return groups_; }
  SwitchT5& model() { return *model_; }
  void release() { workspace_.release(); }

 private:
  std::unique_ptr<Kernels> kernels_;
  Groups groups_;
  Workspace workspace_;
  std::unique_ptr<SwitchT5> model_;
};

// The same without other ranks.
class SingleModel {
 public:
  SingleModel(const Arithmetic& arithmetic, const ModelOptions& options, uint64_t seed = 0)
      : world_(make_single_collectives()), on_rank_(arithmetic, options, *world_, 1, seed) {}
  ModelOnRank* operator->() { return &on_rank_; }

 private:
  std::unique_ptr<Collectives> world_;
  ModelOnRank on_rank_;
};

// A floating or int32 tensor's elements.
Numbers numbers_of(ExecContext& ctx, TensorView x);
// Replaces a weight's (or one expert's slice of a weight's) elements.
void set_numbers(ExecContext& ctx, Weight& weight, TensorView slice, const Numbers& numbers);

// A tensor of a weight by its global name; an expert's slice has a name of its own.
struct NamedSlice {
  std::string name;
  Weight* weight;
  int64_t expert = -1;  // on this rank; -1: the whole weight

  TensorView master() const { return of(weight->master()); }
  TensorView gradient() const { return of(weight->gradient()); }

 private:
  TensorView of(TensorView whole) const;
};
std::vector<NamedSlice> slices_of(const std::vector<Weight*>& weights);

}  // namespace switchyard::test
