// The activation functions of a feed-forward network by Hugging Face's names.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/model_config.h"

namespace switchyard {

// Whether it multiplies by a third product, of the matrix wg.
bool is_gated(ModelConfig::Activation activation);
// As in the config: "swiglu".
const char* config_name(ModelConfig::Activation activation);
// The function alone, as transformers' ACT2FN has it: "silu".
const char* hugging_face_name(ModelConfig::Activation activation);
// Empty where there is none.
std::optional<ModelConfig::Activation> activation_named(std::string_view hugging_face, bool gated);

}  // namespace switchyard
