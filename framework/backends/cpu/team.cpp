#include "backends/cpu/team.h"

#include <omp.h>

namespace switchyard::cpu {

// oneDNN is called from inside the team and must not start threads of its own.
Team::Team(int threads)
    : pool_(threads, [] { omp_set_num_threads(1); }), buffers_(static_cast<size_t>(threads)) {}

float* Team::buffer(int thread, int64_t floats) {
  Tensor& buffer = buffers_[static_cast<size_t>(thread)];
  if (buffer.elements() < floats) buffer = Tensor(DType::kFloat32, {floats});
  return buffer.data<float>();
}

}  // namespace switchyard::cpu
