// Several lambdas as one function object, for std::visit: Overloaded{[](int) {}, [](bool) {}}.
#pragma once

namespace switchyard {

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace switchyard
