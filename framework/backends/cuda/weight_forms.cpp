#include "backends/cuda/weight_forms.h"

#include "ops/elementwise.h"
#include "tensor/memory_use.h"

namespace switchyard::cuda {
namespace {

struct CudaForms final : ComputeForms {
  explicit CudaForms(const Weight& w) : bfloat16(DType::kBFloat16, w.shape(), w.memory()) {}
  Tensor bfloat16;
};

}  // namespace

TensorView compute_form(ExecContext& ctx, const Weight& w, DType activations) {
  if (activations == DType::kFloat32) return w.master();
  if (!w.forms) {
    const MemoryUseScope scope(w.memory(), "bfloat16 forms of weights");
    w.forms = std::make_unique<CudaForms>(w);
    w.forms_version = 0;  // versions begin at 1
  }
  const TensorView form = static_cast<CudaForms&>(*w.forms).bfloat16;
  if (w.forms_version != w.version()) {
    copy(ctx, w.master(), form);
    w.forms_version = w.version();
  }
  return form;
}

}  // namespace switchyard::cuda
