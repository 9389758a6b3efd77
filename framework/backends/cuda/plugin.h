// What the program asks libswitchyard_cuda.so for. The library is opened at run time, so that the
// program starts where CUDA isn't installed; both come from one build.
#pragma once

#include <memory>
#include <string>

#include "collectives/collectives.h"
#include "ops/kernels.h"

namespace switchyard {

struct CudaPlugin {
  const char* version;  // kVersion of its build
  // GPUs that answer; where there are none, `reason` says why.
  int (*count_devices)(std::string& reason);
  // The GPUs and the versions of the driver and of CUDA, in a line; of a machine that has some.
  std::string (*describe)();
  //   device  number of a GPU, below the count
  //   rank    of this process, for the messages of its errors
  std::unique_ptr<Kernels> (*make_kernels)(int device, int rank);
  // Between the devices of all ranks, after make_kernels on each; see collectives/nccl/nccl.h.
  std::unique_ptr<Collectives> (*make_collectives)(Collectives& host);
};

inline constexpr char kCudaPluginFile[] = "libswitchyard_cuda.so";
// extern "C" const CudaPlugin* switchyard_cuda_plugin();
inline constexpr char kCudaPluginSymbol[] = "switchyard_cuda_plugin";

}  // namespace switchyard
