#include "conversion/family.h"

namespace switchyard {

namespace {

struct Row {
  Family family;
  const char* name;
  const char* of_class;
};
constexpr Row kFamilies[] = {
    {Family::kSwitchTransformers, "switch_transformers",
     "SwitchTransformersForConditionalGeneration"},
    {Family::kT5, "t5", "T5ForConditionalGeneration"},
    {Family::kMixtral, "mixtral", "MixtralForCausalLM"},
    {Family::kOlmoe, "olmoe", "OlmoeForCausalLM"},
    {Family::kQwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"},
};

}  // namespace

const char* name_of(Family family) { return kFamilies[static_cast<size_t>(family)].name; }

const char* class_of(Family family) { return kFamilies[static_cast<size_t>(family)].of_class; }

std::optional<Family> family_named(std::string_view model_type) {
  for (const Row& row : kFamilies) {
    if (row.name == model_type) return row.family;
  }
  return {};
}

std::string family_list() {
  std::string list;
  for (const Row& row : kFamilies) {
    if (!list.empty()) list += row.family == Family::kQwen3Moe ? " and " : ", ";
    list += row.name;
  }
  return list;
}

}  // namespace switchyard
