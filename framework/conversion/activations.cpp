#include "conversion/activations.h"

#include "base/check.h"

namespace switchyard {

namespace {

using Activation = ModelConfig::Activation;

struct Row {
  Activation ours;
  const char* in_config;
  const char* theirs;
  bool gated;
};
// Among rows of one function the first one is written.
constexpr Row kRows[] = {
    {Activation::kRelu, "relu", "relu", false},
    {Activation::kGelu, "gelu", "gelu", false},
    {Activation::kSilu, "silu", "silu", false},
    {Activation::kSilu, "silu", "swish", false},
    {Activation::kGeluTanh, "gelu_tanh", "gelu_new", false},
    {Activation::kGeluTanh, "gelu_tanh", "gelu_pytorch_tanh", false},
    {Activation::kGegluTanh, "geglu_tanh", "gelu_new", true},
    {Activation::kGegluTanh, "geglu_tanh", "gelu_pytorch_tanh", true},
    {Activation::kRelu2, "relu2", "relu2", false},
    {Activation::kReglu, "reglu", "relu", true},
    {Activation::kGeglu, "geglu", "gelu", true},
    {Activation::kSwiglu, "swiglu", "silu", true},
    {Activation::kSwiglu, "swiglu", "swish", true},
};

const Row& row_of(Activation activation) {
  for (const Row& row : kRows) {
    if (row.ours == activation) return row;
  }
  SWITCHYARD_CHECK(false, "activation ", static_cast<int>(activation));
  return kRows[0];
}

}  // namespace

bool is_gated(Activation activation) { return row_of(activation).gated; }

const char* config_name(Activation activation) { return row_of(activation).in_config; }

const char* hugging_face_name(Activation activation) { return row_of(activation).theirs; }

std::optional<Activation> activation_named(std::string_view hugging_face, bool gated) {
  for (const Row& row : kRows) {
    if (row.theirs == hugging_face && row.gated == gated) return row.ours;
  }
  return {};
}

}  // namespace switchyard
