#include "registry/devices.h"

#include "backends/cpu/cpu_kernels.h"
#include "backends/cpu/cpu_limits.h"
#include "backends/reference/reference_kernels.h"

namespace switchyard {

const std::vector<DeviceRow>& devices() {
  static const std::vector<DeviceRow> rows = {
      {"cpu", "the fast CPU backend: own thread pool, own products and oneDNN's",
       [](int threads) { return make_cpu_kernels(threads); }, describe_cpu,
       [](int threads) { return cpu::measure_limits(threads, cpu::choose_isa()); }},
      {"reference", "plain loops: the oracle of the others, slow",
       [](int) { return make_reference_kernels(); },
       [](int) { return std::string("one thread, any processor"); }, nullptr},
  };
  return rows;
}

static const DeviceRow* find_device(const std::string& name) {
  for (const DeviceRow& row : devices()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::string resolve_device(const std::string& name, const std::string& where) {
  if (name == "auto") return "cpu";
  if (find_device(name)) return name;
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

std::optional<DeviceLimits> measure_limits(const std::string& device, int threads) {
  const DeviceRow& row = row_of(device);
  if (row.measure == nullptr) return {};
  return row.measure(threads);
}

}  // namespace switchyard
