// The golden files of tests/golden: results that this project did not compute. See its README.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "safetensors/safetensors.h"

namespace switchyard::test {

// SWITCHYARD_GOLDEN is defined by the test's CMakeLists.txt.
inline std::filesystem::path golden_path(const std::string& file) {
  return std::filesystem::path(SWITCHYARD_GOLDEN) / file;
}

inline nlohmann::json golden_json(const std::string& file) {
  std::ifstream in(golden_path(file));
  SWITCHYARD_CHECK(in.good(), "cannot read golden file ", file);
  return nlohmann::json::parse(in);
}

// All numbers of nested arrays, in order.
inline std::vector<double> flat(const nlohmann::json& value) {
  if (value.is_number()) return {value.get<double>()};
  std::vector<double> all;
  for (const auto& part : value) {
    const std::vector<double> numbers = flat(part);
    all.insert(all.end(), numbers.begin(), numbers.end());
  }
  return all;
}

// A file's tensors as numbers.
class GoldenTensors {
 public:
  explicit GoldenTensors(const std::string& file)
      : file_(SafetensorsFile::open(golden_path(file))) {}

  std::vector<double> floats(const std::string& name) const { return read<float>(name); }
  std::vector<int32_t> integers(const std::string& name) const {
    const std::vector<double> numbers = read<int32_t>(name);
    return std::vector<int32_t>(numbers.begin(), numbers.end());
  }
  Shape shape(const std::string& name) const { return file_.read(name).shape(); }

 private:
  template <typename T>
  std::vector<double> read(const std::string& name) const {
    const Tensor tensor = file_.read(name);
    const T* data = tensor.data<T>();
    return std::vector<double>(data, data + tensor.elements());
  }

  SafetensorsFile file_;
};

}  // namespace switchyard::test
