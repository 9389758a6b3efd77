#include "backends/cpu/sgemm.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>

#include "base/check.h"

namespace switchyard::cpu {

void sgemm(int64_t m, int64_t n, int64_t k, float factor, Matrix a, Matrix b, float keep, float* c,
           int64_t c_stride) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (keep == 0.0f) {
      for (int64_t row = 0; row < m; ++row) std::fill_n(c + row * c_stride, n, 0.0f);
    }
    return;
  }
  const dnnl_status_t status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, factor, a.data,
                 a.stride, b.data, b.stride, keep, c, c_stride);
  SWITCHYARD_CHECK(status == dnnl_success, "dnnl_sgemm ", m, " x ", n, " x ", k, " returned ",
                   static_cast<int>(status));
}

}  // namespace switchyard::cpu
