// Rules of optimizers' and schedules' options that need the rest of the config; see
// ChoiceRow::check. All throw ConfigError.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace switchyard {

// A router's traits (choices.h) against the stack's capacity, the losses and the stack's kind.
void check_router(const Options& options, const Config& config, const std::string& path);

// The same, and K fits the groups of experts.
void check_top_k(const Options& options, const Config& config, const std::string& path);
void check_hierarchical(const Options& options, const Config& config, const std::string& path);

// The same, and a token's choices can be numbered.
void check_expert_choice(const Options& options, const Config& config, const std::string& path);

// The same, and a sequence has no more slots at an expert than tokens.
void check_soft(const Options& options, const Config& config, const std::string& path);

// What of routing in a causal stack looks at later tokens without being refused: generation, which
// hasn't seen them, can't repeat it. Lines for a person.
std::vector<std::string> warnings_of_routing(const Config& config);

// No group of weights is set that the model has no weights of.
void check_weight_groups(const Options& options, const Config& config, const std::string& path);

// The same, and the step offset lies before the last step.
void check_adafactor(const Options& options, const Config& config, const std::string& path);

// Warm-up and decay don't overlap.
void check_warmup_stable_decay(const Options& options, const Config& config,
                               const std::string& path);

}  // namespace switchyard
