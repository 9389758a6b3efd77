// The backends of this build, by the name that the config's `device` gives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/kernels.h"

namespace switchyard {

struct DeviceRow {
  std::string name;
  std::string meaning;
  //   threads  of this rank's team
  std::unique_ptr<Kernels> (*make)(int threads);
  // What it found here, for `doctor`.
  std::string (*describe)(int threads);
};

const std::vector<DeviceRow>& devices();

// What `auto` stands for here; any other name as it is. Throws ConfigError for a device that isn't
// in this build, listing those that are.
//   where  the place of the `device` key, for the error
std::string resolve_device(const std::string& name, const std::string& where);

std::unique_ptr<Kernels> make_kernels(const std::string& device, int threads);

}  // namespace switchyard
