// The families of Hugging Face transformers that models are read from and written as. What they
// compute stands in models/; which of ours is which of theirs, in to_hugging_face.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

enum class Family { kSwitchTransformers, kT5, kMixtral, kOlmoe, kQwen3Moe };

// As config.json's model_type: "switch_transformers".
const char* name_of(Family family);
// The class that its weights belong to: "MixtralForCausalLM".
const char* class_of(Family family);
std::optional<Family> family_named(std::string_view model_type);
// "switch_transformers, t5, mixtral, olmoe and qwen3_moe"
std::string family_list();

// Encoder-decoders with T5's names.
inline bool is_encoder_decoder(Family family) {
  return family == Family::kSwitchTransformers || family == Family::kT5;
}

}  // namespace switchyard
