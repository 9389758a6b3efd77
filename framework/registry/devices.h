// The backends of this build, by the name that the config's `device` gives.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/collectives.h"
#include "ops/device_limits.h"
#include "ops/kernels.h"

namespace switchyard {

// Empty where there is none.
struct DeviceTrouble {
  std::string what, advice;
};

struct DeviceRow {
  std::string name;
  std::string meaning;
  //   threads  of this rank's team
  std::unique_ptr<Kernels> (*make)(int threads);
  // What it found here, for `doctor`.
  std::string (*describe)(int threads);
  // Collectives between its memories of all ranks; null: the host's do for it, too.
  std::unique_ptr<Collectives> (*make_collectives)(Collectives& host);
  // Why it can't compute here, and what to do; null: it always can.
  DeviceTrouble (*trouble)();
  // What it can do at best, with as many threads; see cpu_limits.h. Null: nobody has measured it.
  DeviceLimits (*measure)(int threads);
};

const std::vector<DeviceRow>& devices();

// What `auto` stands for here: cuda where a GPU answers, else cpu; any other name as it is. Throws
// ConfigError for a device that isn't in this build, listing those that are, or can't be used here.
//   where  the place of the `device` key, for the error
std::string resolve_device(const std::string& name, const std::string& where);

std::unique_ptr<Kernels> make_kernels(const std::string& device, int threads);

// What moves tensors between the devices of the ranks; null where the host's collectives do. Every
// rank calls it once its kernels are made; `host` must outlive the result.
std::unique_ptr<Collectives> make_device_collectives(const std::string& device, Collectives& host);

// Empty where the device's limits aren't measured.
std::optional<DeviceLimits> measure_limits(const std::string& device, int threads);

}  // namespace switchyard
