// The backends of this build, by the name that the config's `device` gives.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/device_limits.h"
#include "ops/kernels.h"

namespace switchyard {

struct DeviceRow {
  std::string name;
  std::string meaning;
  //   threads  of this rank's team
  std::unique_ptr<Kernels> (*make)(int threads);
  // What it found here, for `doctor`.
  std::string (*describe)(int threads);
  // What it can do at best, with as many threads; see cpu_limits.h. Null: nobody has measured it.
  DeviceLimits (*measure)(int threads);
};

const std::vector<DeviceRow>& devices();

// What `auto` stands for here; any other name as it is. Throws ConfigError for a device that isn't
// in this build, listing those that are.
//   where  the place of the `device` key, for the error
std::string resolve_device(const std::string& name, const std::string& where);

std::unique_ptr<Kernels> make_kernels(const std::string& device, int threads);

// Empty where the device's limits aren't measured.
std::optional<DeviceLimits> measure_limits(const std::string& device, int threads);

}  // namespace switchyard
