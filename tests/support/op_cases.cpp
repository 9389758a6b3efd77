#include "support/op_cases.h"

namespace switchyard::test {

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> made;
    add_product_cases(made);
    add_attention_cases(made);
    add_elementwise_cases(made);
    add_routing_cases(made);
    add_gating_cases(made);
    return made;
  }();
  return cases;
}

}  // namespace switchyard::test
