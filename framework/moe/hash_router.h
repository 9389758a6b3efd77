// Hash layers (Roller 2021): a token's id says which expert it goes to, by a fixed hash or by a
// table that balances how often ids occur. Nothing is learned, every choice weighs 1.
#pragma once

#include <string>

#include "moe/router.h"
#include "tensor/tensor.h"

namespace switchyard {

struct HashRouterOptions : OptionsOf<HashRouterOptions, RouterOptions> {
  std::string frequencies;

  void describe(Fields& f) override;
};

// The expert of each id, [vocabulary].
// By hash: philox(id, layer, 0, 0, 0x5357495443484841), its first word modulo `experts`.
std::vector<int32_t> experts_by_hash(int64_t vocabulary, int64_t experts, uint16_t layer);
// By a file of lines "id count": ids by descending count, among equals the lower first, each to the
// expert of the smallest sum of counts so far, among equals the lower. Ids that it doesn't name
// stay where their hash puts them. Throws InputError.
std::vector<int32_t> experts_by_frequency(const std::string& file, int64_t vocabulary,
                                          int64_t experts, uint16_t layer);

class HashRouter : public Router {
 public:
  // Reads the file of frequencies, where one is named. Throws InputError.
  HashRouter(const HashRouterOptions& options, const RouterPlace& place);

  int64_t choices() const override { return 1; }
  void forward(LayerContext& ctx, const RouterInput& input, TensorView decided,
               Routing& routing) override;
  // Not possible: there is no second best.
  void reroute(LayerContext& ctx, TensorView landed, Routing& routing) override;
  void backward(LayerContext&, const RouterInput&, const Routing&, const RoutingGradient&,
                TensorView) override {}
  void collect_weights(std::vector<Weight*>&) override {}

 private:
  int64_t experts_;
  DType dtype_;
  Tensor table_;  // int32 [V]
};

}  // namespace switchyard
