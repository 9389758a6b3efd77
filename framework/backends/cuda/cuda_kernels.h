// Every operation on a CUDA device, for float32 and bfloat16 activations. Results are
// deterministic: sums have a fixed order, and nothing is added with floating-point atomics. Without
// ordered sums products are cuBLAS's, and a row's rounding may depend on how many rows the call
// has. Definitions are in the .cu files of this folder.
#pragma once

#include <memory>

#include "backends/cuda/cuda_memory.h"
#include "ops/kernels.h"

namespace switchyard {

namespace cuda {
class ProductLibrary;
}

class CudaKernels final : public Kernels {
 public:
  //   device  its number among those that the process sees; later work of the calling thread is on
  //           it
  explicit CudaKernels(int device);
  ~CudaKernels() override;

  std::string_view name() const override { return "cuda"; }
  Memory& memory() override { return memory_; }
  std::unique_ptr<Stream> make_stream() override;
  bool supports(DType dtype) const override {
    return dtype == DType::kFloat32 || dtype == DType::kBFloat16;
  }

  // MatMul
  void linear(ExecContext& ctx, TensorView x, const Weight& w, TensorView y,
              const Epilogue& epilogue) override;
  void linear_input_gradient(ExecContext& ctx, TensorView dy, const Weight& w, TensorView dx,
                             Write write) override;
  void linear_weight_gradient(ExecContext& ctx, TensorView x, TensorView dy, LeafOffsets leaves,
                              Weight& w) override;

  // GroupedMatMul
  void grouped_linear(ExecContext& ctx, TensorView x, RowOrder x_order, const Weight& w,
                      const RaggedRows& rows, TensorView y, RowOrder y_order,
                      const Epilogue& epilogue) override;
  void grouped_input_gradient(ExecContext& ctx, TensorView dy, RowOrder dy_order, const Weight& w,
                              const RaggedRows& rows, TensorView dx, RowOrder dx_order) override;
  void grouped_weight_gradient(ExecContext& ctx, TensorView x, RowOrder x_order, TensorView dy,
                               RowOrder dy_order, const RaggedRows& rows, Weight& w) override;

  // Attention
  void attention(ExecContext& ctx, const AttentionInput& in, TensorView out,
                 TensorView log_sum_exp) override;
  void attention_backward(ExecContext& ctx, const AttentionInput& in, TensorView out,
                          TensorView log_sum_exp, TensorView dout, LeafOffsets leaves,
                          TensorView dq, TensorView dk, TensorView dv,
                          TensorView ddistance_bias) override;

  // Rotary
  void rotary_table(ExecContext& ctx, TensorView position, double theta, TensorView table) override;
  void rotate(ExecContext& ctx, TensorView x, TensorView table, Rotation rotation,
              TensorView y) override;

  // Norm
  void rms_norm(ExecContext& ctx, TensorView x, const Weight& w, double epsilon,
                NormRounding rounding, TensorView y, TensorView inverse_rms) override;
  void rms_norm_backward(ExecContext& ctx, TensorView x, TensorView inverse_rms, TensorView dy,
                         LeafOffsets leaves, TensorView dx, Write write, Weight& w) override;

  // Elementwise
  void fill_zero(ExecContext& ctx, TensorView x) override;
  void copy(ExecContext& ctx, TensorView x, TensorView y) override;
  void add(ExecContext& ctx, TensorView a, TensorView b, TensorView y) override;
  void scale(ExecContext& ctx, TensorView x, double factor, TensorView y) override;
  void activation_backward(ExecContext& ctx, Activation activation, TensorView pre_activation,
                           TensorView dy, TensorView dx) override;
  void gated_activation(ExecContext& ctx, Activation activation, TensorView gate, TensorView up,
                        TensorView y) override;
  void gated_activation_backward(ExecContext& ctx, Activation activation, TensorView gate,
                                 TensorView up, TensorView dy, TensorView dgate,
                                 TensorView dup) override;
  void embedding(ExecContext& ctx, const Weight& table, TensorView ids, TensorView y) override;
  void embedding_gradient(ExecContext& ctx, TensorView ids, TensorView dy, LeafOffsets leaves,
                          Weight& table) override;
  void distance_bias(ExecContext& ctx, const Weight& table, TensorView bucket,
                     TensorView bias) override;
  void distance_bias_gradient(ExecContext& ctx, TensorView dbias, TensorView bucket,
                              Weight& table) override;

  // RandomOps
  void dropout(ExecContext& ctx, TensorView x, double rate, const RandomRows& random,
               TensorView y) override;
  void jitter(ExecContext& ctx, TensorView x, double epsilon, const RandomRows& random,
              TensorView y) override;
  void uniform(ExecContext& ctx, const RandomRows& random, TensorView y) override;

  // RoutingOps
  void softmax(ExecContext& ctx, TensorView logits, TensorView probs) override;
  void softmax_backward(ExecContext& ctx, TensorView probs, TensorView dprobs, TensorView dlogits,
                        Write write) override;
  void choose_top_k(ExecContext& ctx, TensorView scores, TensorView mask,
                    TensorView expert) override;
  void mask_choices(ExecContext& ctx, TensorView expert, TensorView mask,
                    TensorView masked) override;
  void gather_choices(ExecContext& ctx, TensorView probs, TensorView expert,
                      TensorView weight) override;
  void gather_choices_backward(ExecContext& ctx, TensorView expert, TensorView dweight,
                               TensorView dprobs) override;
  void routing_statistics(ExecContext& ctx, TensorView logits, TensorView probs, TensorView expert,
                          TensorView real, LeafOffsets groups,
                          const RoutingStatistics& statistics) override;
  void load_balance_gradient(ExecContext& ctx, TensorView real, LeafOffsets groups,
                             const RoutingStatistics& statistics, int64_t choices,
                             int64_t group_experts, double factor, TensorView dprobs) override;
  void router_z_gradient(ExecContext& ctx, TensorView logits, TensorView real, LeafOffsets groups,
                         const RoutingStatistics& statistics, double factor,
                         TensorView dlogits) override;
  void plan_capacity(ExecContext& ctx, TensorView expert, TensorView priority, LeafOffsets groups,
                     int64_t experts, int64_t capacity, TensorView kept) override;
  void plan_reroute(ExecContext& ctx, TensorView scores, TensorView expert, TensorView priority,
                    LeafOffsets groups, int64_t capacity, TensorView kept) override;
  void drop_statistics(ExecContext& ctx, TensorView expert, TensorView kept, TensorView weight,
                       TensorView dropped, TensorView weights) override;
  void count_choices(ExecContext& ctx, TensorView kept, LeafOffsets groups,
                     TensorView counts) override;
  void order_choices(ExecContext& ctx, TensorView kept, int64_t experts, TensorView source,
                     TensorView position) override;
  void gather_row_keys(ExecContext& ctx, TensorView token, TensorView source, int64_t choices,
                       TensorView keys) override;
  void gather_rows(ExecContext& ctx, TensorView x, TensorView source, int64_t choices,
                   TensorView rows) override;
  void combine_rows(ExecContext& ctx, TensorView rows, TensorView position, TensorView weight,
                    TensorView y) override;
  void combine_rows_backward(ExecContext& ctx, TensorView rows, TensorView source,
                             TensorView position, TensorView weight, TensorView dy,
                             TensorView drows, TensorView dweight) override;

  // GatingOps
  void sigmoid(ExecContext& ctx, TensorView logits, TensorView scores) override;
  void sigmoid_backward(ExecContext& ctx, TensorView scores, TensorView dscores, TensorView dlogits,
                        Write write) override;
  void normalize_rows(ExecContext& ctx, TensorView x, double factor, TensorView y) override;
  void normalize_rows_backward(ExecContext& ctx, TensorView x, double factor, TensorView dy,
                               TensorView dx, Write write) override;
  void add_row(ExecContext& ctx, TensorView x, TensorView row, TensorView y) override;
  void keep_best_groups(ExecContext& ctx, TensorView scores, int64_t expert_groups, int64_t top,
                        int64_t each, TensorView masked) override;
  void add_noise(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                 const RandomRows& random, TensorView noisy) override;
  void add_noise_backward(ExecContext& ctx, TensorView noise_logits, const RandomRows& random,
                          TensorView dnoisy, TensorView dnoise_logits, Write write) override;
  void smooth_load(ExecContext& ctx, TensorView logits, TensorView noise_logits, TensorView noisy,
                   int64_t choices, TensorView load) override;
  void smooth_load_backward(ExecContext& ctx, TensorView logits, TensorView noise_logits,
                            TensorView noisy, int64_t choices, TensorView dload, TensorView dlogits,
                            TensorView dnoise_logits, TensorView dnoisy, Write write) override;
  void cv_squared(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                  TensorView cv) override;
  void cv_squared_gradient(ExecContext& ctx, TensorView values, TensorView mask, LeafOffsets groups,
                           double factor, TensorView dvalues) override;
  void skip_choices(ExecContext& ctx, TensorView expert, TensorView weight,
                    const RandomRows& random, TensorView sent, TensorView skipped) override;
  void choose_tokens(ExecContext& ctx, TensorView probs, TensorView mask, LeafOffsets groups,
                     int64_t capacity, TensorView expert) override;
  void sinkhorn(ExecContext& ctx, TensorView logits, TensorView mask, LeafOffsets groups,
                int64_t iterations, TensorView assignment) override;
  void scale_column_groups(ExecContext& ctx, TensorView x, TensorView factor,
                           TensorView y) override;
  void scale_column_groups_backward(ExecContext& ctx, TensorView x, TensorView factor,
                                    TensorView dy, TensorView dx, TensorView dfactor,
                                    Write write) override;
  void sum_column_groups(ExecContext& ctx, TensorView x, TensorView y) override;
  void join_choices(ExecContext& ctx, TensorView group, TensorView inner, int64_t experts_per_group,
                    TensorView expert) override;
  void split_choices(ExecContext& ctx, TensorView expert, int64_t experts_per_group,
                     TensorView group) override;
  void look_up_choices(ExecContext& ctx, TensorView table, TensorView ids, TensorView mask,
                       TensorView expert) override;

  // SoftMixing
  void softmax_over_tokens(ExecContext& ctx, TensorView logits, TensorView mask,
                           LeafOffsets sequences, TensorView weights) override;
  void softmax_over_tokens_backward(ExecContext& ctx, TensorView weights, TensorView dweights,
                                    LeafOffsets sequences, TensorView dlogits,
                                    Write write) override;
  void mix_rows(ExecContext& ctx, TensorView weights, TensorView x, LeafOffsets sequences,
                TensorView rows) override;
  void unmix_rows(ExecContext& ctx, TensorView weights, TensorView rows, LeafOffsets sequences,
                  TensorView y, Write write) override;
  void mixing_gradient(ExecContext& ctx, TensorView x, TensorView rows, LeafOffsets sequences,
                       TensorView dweights, Write write) override;

  // Loss
  void linear_cross_entropy(ExecContext& ctx, const CrossEntropy& objective, TensorView h,
                            Weight& w, TensorView targets, LeafOffsets leaves, TensorView losses,
                            TensorView z_losses, TensorView dh) override;

  // Update
  void sum_of_squares(ExecContext& ctx, TensorView x, TensorView sum) override;
  void gradient_of_sums(ExecContext& ctx, Weight& weight) override;
  void adamw(ExecContext& ctx, const AdamWStep& step, TensorView weight, TensorView gradient,
             TensorView first, TensorView second) override;
  void sgd(ExecContext& ctx, const SgdStep& step, TensorView weight, TensorView gradient,
           TensorView velocity) override;
  void adafactor_moments(ExecContext& ctx, const AdafactorStep& step, TensorView weight,
                         TensorView gradient, const AdafactorMoments& moments,
                         TensorView sums) override;
  void adafactor_update(ExecContext& ctx, double gradient_scale, double decay,
                        TensorView step_sizes, TensorView weight, TensorView gradient,
                        const AdafactorMoments& moments) override;

 private:
  cuda::CudaMemory memory_;
  std::unique_ptr<cuda::ProductLibrary> products_;
};

std::unique_ptr<Kernels> make_cuda_kernels(int device);

}  // namespace switchyard
