// The most that a device can do, as measured on it.
#pragma once

namespace switchyard {

struct DeviceLimits {
  double flops = 0;             // floating-point operations a second, of matrix products
  double bytes_per_second = 0;  // of memory, read and written together
};

}  // namespace switchyard
