// What a model computes for given token ids, for comparison with other implementations: logits, and
// of every mixture choices and probabilities. Each sequence is computed as it stands, in
// evaluation mode, as a routing group of its own: nothing depends on the sequences beside it.
#pragma once

#include <string>
#include <vector>

#include "data/token_lines.h"
#include "models/model.h"
#include "trainer/workspace.h"

namespace switchyard {

struct OutputTensor {
  std::string name;
  Tensor values;  // on the host
};

// Of N sequences, the longest of which has S positions, float32 or int32:
//   lengths         [N]           positions of each sequence that has logits
//   encoder_lengths [N]           the same of the encoder, in models with one
//   logits          [N, S, V]
// and of each mixture, S being that of its stack:
//   <layer>.chosen         [N, S, K]  experts, best first, before drops; -1: none, as for padding
//                                     that isn't routed
//   <layer>.kept           [N, S, K]  the experts that choices reach: as chosen, -1 where dropped,
//                                     another one where rerouted
//   <layer>.weights        [N, S, K]  share of each choice in the output, before drops
//   <layer>.probabilities  [N, S, E]  the router's scores as a distribution over the experts
// Behind a sequence's length stand zeros, -1 in `chosen` and `kept`.
//
// Every rank calls it with the same sequences; sequence i is computed by rank i modulo the number
// of ranks. Rank 0 gets the tensors, the others none.
//   vocabulary   V
//   has_encoder  whether the model has one
std::vector<OutputTensor> model_outputs(Kernels& kernels, const Groups& groups, Model& model,
                                        const std::vector<GivenTokens>& sequences,
                                        int64_t vocabulary, bool has_encoder);

}  // namespace switchyard
