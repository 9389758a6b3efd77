// What ranks tell each other about a checkpoint: a vote, so that an error on one ends the operation
// on all instead of leaving the others waiting, and texts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "collectives/collectives.h"

namespace switchyard {

// Runs `action`, which must not communicate, on every rank and returns when it has succeeded on
// all. Where it threw, its error is rethrown; all other ranks throw an Error with the text and exit
// code of one that threw, and its rank, so that it doesn't matter which rank reports. Every rank
// calls it.
void run_and_agree(Collectives& world, const std::function<void()>& action);

// Every rank's bytes, by rank. Every rank calls it.
std::vector<std::string> gather_texts(Collectives& world, std::string mine);

}  // namespace switchyard
