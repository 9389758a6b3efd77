// The config as JSON Schema (draft-07), for editors and other programs: every key with its type,
// range, names, unit, default and meaning. It refuses whatever the reader (field_reader.h) refuses
// by itself; rules between keys (rules.h, inert_if) are only told in descriptions.
#pragma once

#include <string>

#include "config/choice.h"

namespace switchyard {

// Indented JSON, the same for the same tables.
std::string json_schema(const ChoiceTables& tables);

}  // namespace switchyard
