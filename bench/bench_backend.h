// The CPU backend as a rank has it, for the micro-benchmarks.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "backends/cpu/cpu_kernels.h"

namespace switchyard {

// SWITCHYARD_BENCH_THREADS; default 2.
inline int threads() {
  const char* text = std::getenv("SWITCHYARD_BENCH_THREADS");
  return text == nullptr ? 2 : std::max(1, std::atoi(text));
}

// One for all benchmarks of a program.
struct BenchBackend {
  std::unique_ptr<Kernels> kernels = make_cpu_kernels(threads());
  std::unique_ptr<Stream> stream = kernels->make_stream();
  Arena scratch{kernels->memory()};
  ExecContext ctx{*kernels, *stream, scratch};
};

inline ExecContext& ctx() {
  static BenchBackend backend;
  return backend.ctx;
}

}  // namespace switchyard
