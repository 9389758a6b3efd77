#include "registry/devices.h"

#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/cpu_limits.h"
#include "backends/reference/reference_kernels.h"
#ifdef SWITCHYARD_HAVE_CUDA
#include "registry/cuda_device.h"
#endif

namespace switchyard {

const std::vector<DeviceRow>& devices() {
  static const std::vector<DeviceRow> rows = {
      {"cpu", "the fast CPU backend: own thread pool, own products and oneDNN's",
       [](int threads) { return make_cpu_kernels(threads); }, describe_cpu, nullptr, nullptr,
       [](int threads) { return cpu::measure_limits(threads, cpu::choose_isa()); }},
      {"reference", "plain loops: the oracle of the others, slow",
       [](int) { return make_reference_kernels(); },
       [](int) { return std::string("one thread, any processor"); }, nullptr, nullptr, nullptr},
#ifdef SWITCHYARD_HAVE_CUDA
      {"cuda", "NVIDIA GPUs from Ampere on: cuBLAS's products and own kernels; not run on one yet",
       [](int) { return make_cuda(); }, [](int) { return describe_cuda(); }, make_cuda_collectives,
       find_cuda_trouble, nullptr},
#endif
  };
  return rows;
}

static const DeviceRow* find_device(const std::string& name) {
  for (const DeviceRow& row : devices()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

static const char* fastest_device() {
#ifdef SWITCHYARD_HAVE_CUDA
  if (cuda_answers()) return "cuda";
#endif
  return "cpu";
}

std::string resolve_device(const std::string& name, const std::string& where) {
  if (name == "auto") return fastest_device();
  if (const DeviceRow* row = find_device(name)) {
    const DeviceTrouble trouble = row->trouble ? row->trouble() : DeviceTrouble{};
    if (trouble.what.empty()) return name;
    throw ConfigError("device '" + name + "' can't compute here: " + trouble.what, where,
                      trouble.advice);
  }
  std::string built;
  for (const DeviceRow& row : devices()) built += (built.empty() ? "" : ", ") + row.name;
  throw ConfigError("device '" + name + "' is not in this build; built: " + built, where,
                    "set device: auto, or one of those");
}

static const DeviceRow& row_of(const std::string& device) {
  const DeviceRow* row = find_device(device);
  SWITCHYARD_CHECK(row != nullptr, "device ", device);
  return *row;
}

std::unique_ptr<Kernels> make_kernels(const std::string& device, int threads) {
  return row_of(device).make(threads);
}

std::unique_ptr<Collectives> make_device_collectives(const std::string& device, Collectives& host) {
  const DeviceRow& row = row_of(device);
  return row.make_collectives ? row.make_collectives(host) : nullptr;
}

std::optional<DeviceLimits> measure_limits(const std::string& device, int threads) {
  const DeviceRow& row = row_of(device);
  if (row.measure == nullptr) return {};
  return row.measure(threads);
}

}  // namespace switchyard
