// A file that `switchyard logits` wrote.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "safetensors/safetensors.h"

namespace switchyard::test {

class Outputs {
 public:
  explicit Outputs(const std::filesystem::path& path) : file_(SafetensorsFile::open(path)) {}

  // Sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const StoredTensor& tensor : file_.tensors()) all.push_back(tensor.name);
    std::ranges::sort(all);
    return all;
  }
  Shape shape(const std::string& name) const { return file_.read(name).shape(); }
  std::vector<float> floats(const std::string& name) const { return read<float>(name); }
  std::vector<int32_t> integers(const std::string& name) const { return read<int32_t>(name); }

 private:
  template <typename T>
  std::vector<T> read(const std::string& name) const {
    const Tensor tensor = file_.read(name);
    return {tensor.data<T>(), tensor.data<T>() + tensor.elements()};
  }

  SafetensorsFile file_;
};

}  // namespace switchyard::test
