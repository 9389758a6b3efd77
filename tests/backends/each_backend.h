// A fixture that runs a test on every backend of the build, in float32.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "support/backends.h"
#include "tensor/weight.h"

namespace switchyard::test {

// Elements in a tensor of the device's memory.
template <typename T>
Tensor device_tensor(Device& device, const Shape& shape, const std::vector<T>& elements) {
  Tensor x(DTypeOf<T>::value, shape, device.memory());
  upload<T>(device.context(), elements, x);
  return x;
}

template <typename T>
std::unique_ptr<Weight> device_weight(Device& device, const Shape& shape,
                                      const std::vector<T>& elements) {
  auto weight =
      std::make_unique<Weight>("w", WeightRole::kDense, DTypeOf<T>::value, shape, device.memory());
  upload<T>(device.context(), elements, weight->master());
  weight->master_changed();
  return weight;
}

template <typename T>
std::vector<T> host(Device& device, TensorView x) {
  return read_back_as<T>(device.context(), x);
}

class EachBackend : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const BackendUnderTest& backend : backends_under_test()) {
      if (backend.name != GetParam()) continue;
      backend_ = backend;
      if (!backend.usable) GTEST_SKIP() << backend.name << " cannot run on this machine";
      device_ = std::make_unique<Device>(backend.make());
    }
  }
  Device& device() { return *device_; }
  ExecContext& context() { return device_->context(); }
  const BackendUnderTest& backend() const { return backend_; }

 private:
  BackendUnderTest backend_;
  std::unique_ptr<Device> device_;
};

inline std::vector<std::string> names_of_backends() {
  std::vector<std::string> names;
  for (const BackendUnderTest& backend : backends_under_test()) names.push_back(backend.name);
  return names;
}

}  // namespace switchyard::test

// One instance of the fixture's tests for each backend.
#define SWITCHYARD_EACH_BACKEND(fixture)                                          \
  INSTANTIATE_TEST_SUITE_P(Each, fixture, testing::ValuesIn(names_of_backends()), \
                           [](const auto& parameter) { return parameter.param; })
