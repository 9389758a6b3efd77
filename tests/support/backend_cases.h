// The parameter of suites that run a list of cases on every backend and dtype, and its name.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "support/backends.h"
#include "support/op_case.h"

namespace switchyard::test {

struct BackendCase {
  size_t backend;  // in backends_under_test()
  DType dtype;
  const OpCase* op_case;

  std::string name() const {
    return backends_under_test()[backend].name + "_" + std::string(name_of(dtype)) + "_" +
           op_case->name;
  }
};

inline void PrintTo(const BackendCase& parameter, std::ostream* out) { *out << parameter.name(); }

//   cases  live as long as the program
inline std::vector<BackendCase> on_every_backend(const std::vector<OpCase>& cases) {
  std::vector<BackendCase> parameters;
  const std::vector<BackendUnderTest> backends = backends_under_test();
  for (size_t backend = 0; backend < backends.size(); ++backend) {
    for (const DType dtype : backends[backend].dtypes) {
      for (const OpCase& op_case : cases) parameters.push_back({backend, dtype, &op_case});
    }
  }
  return parameters;
}

}  // namespace switchyard::test
