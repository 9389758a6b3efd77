#include "backends/cpu/cpu_kernels.h"

#include <thread>

namespace switchyard {
namespace {

// Before any member that may come to use oneDNN.
const cpu::VectorLoops& prepared_loops(cpu::Isa isa) {
  SWITCHYARD_CHECK(cpu::is_usable(isa), cpu::name_of(isa), " on this processor");
  cpu::limit_dnnl(isa);
  return cpu::loops_of(isa);
}

}  // namespace

CpuKernels::CpuKernels(int threads, cpu::Isa isa) : CpuKernels(threads, isa, cpu::tiles_of(isa)) {}

CpuKernels::CpuKernels(int threads, cpu::Isa isa, const cpu::TileLoops* tiles)
    : team_(threads),
      loops_(prepared_loops(isa)),
      row_products_(team_, loops_, tiles),
      gradient_products_(team_, loops_, tiles) {}

std::unique_ptr<Kernels> make_cpu_kernels(int threads) {
  return std::make_unique<CpuKernels>(threads, cpu::choose_isa());
}

std::string describe_cpu(int threads) {
  const cpu::Isa isa = cpu::choose_isa();
  std::ostringstream text;
  text << cpu::processor_name() << ", " << std::thread::hardware_concurrency()
       << " hardware threads; " << cpu::name_of(isa) << " loops on " << threads
       << (threads == 1 ? " thread; " : " threads; ") << cpu::describe_amx();
  return text.str();
}

}  // namespace switchyard
