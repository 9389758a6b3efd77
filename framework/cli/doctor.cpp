#include <fmt/core.h>
#include <unistd.h>

#include "base/version.h"
#include "cli/verbs.h"
#include "registry/devices.h"
#include "registry/jobs.h"

namespace switchyard {

static double physical_memory_gib() {
  const double pages = static_cast<double>(sysconf(_SC_PHYS_PAGES));
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0 * 1024.0);
}

static std::string precisions(const Kernels& kernels) {
  std::string list;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    if (!kernels.supports(dtype)) continue;
    list += (list.empty() ? "" : ", ") + std::string(name_of(dtype));
  }
  return list;
}

static void print_device(const DeviceRow& device, int threads) {
  fmt::print("device {}: {}\n  here: {}\n", device.name, device.meaning, device.describe(threads));
  if (device.trouble && !device.trouble().what.empty()) return;
  fmt::print("  precisions: {}\n", precisions(*device.make(1)));
}

static void examine(Job& job) {
  Collectives& world = job.world();
  double ranks = 1;
  InlineStream stream;
  world.all_reduce(stream, TensorView(&ranks, DType::kFloat64, {1}), ReduceOp::kSum)->wait();
  if (world.rank() != 0) return;
  const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int threads = std::max(1, cores / job.ranks_on_this_node());
  fmt::print("switchyard {}, built with g++ {}\n", kVersion, __VERSION__);
  fmt::print("machine: {} cores, {:.1f} GiB of memory\n", cores, physical_memory_gib());
  fmt::print("ranks: {} of this job answered ({}), {} on this machine, {} threads each\n", ranks,
             world.name(), job.ranks_on_this_node(), threads);
  fmt::print("collectives built: {}\n", built_collectives());
  for (const DeviceRow& device : devices()) print_device(device, threads);
  fmt::print("device auto: {}\n", resolve_device("auto", ""));
}

void add_doctor(CommandLine& line) {
  line.verb("doctor", "Say what this build and this machine can do")
      .example("mpirun -np 2 switchyard doctor")
      .runs([] { run_in_job(examine); });
}

}  // namespace switchyard
