// Runs the fullest batch that there can be through a model before anything is trained: arenas,
// buffers and compute forms then have the sizes that they will ever need, and these are known.
// Weights, moments and the trainer's counters stay as they are; gradients are forgotten.
#pragma once

#include "data/token_source.h"
#include "trainer/batch_layout.h"
#include "trainer/workspace.h"

namespace switchyard {

class Model;

// Sizes the workspace's arenas for micro-batches of a layout. Choices of experts are given, not
// made: once all tokens of an expert group go to its first rank, and once equally many to every
// expert; what the two need more of, on any rank, is what every rank gets. Routers whose experts
// choose, or that make slots, need the same whatever the tokens are. Every rank calls it.
//   source    for its widths and vocabulary; not asked for samples
//   layout    the first micro-batch is the largest
//   training  forward and backward; else the forward pass of an evaluation
void rehearse(Workspace& workspace, Model& model, const TokenSource& source,
              const BatchLayout& layout, bool training);

}  // namespace switchyard
