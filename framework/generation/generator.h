// Writes answers to prompts, token by token: for an encoder-decoder the prompt is what the encoder
// reads, for a decoder alone what the answer goes on from. Knows ids, not text.
#pragma once

#include <functional>
#include <vector>

#include "data/vocabulary.h"
#include "generation/decoding.h"
#include "generation/token_sampler.h"

namespace switchyard {

class Generator {
 public:
  struct Options {
    SamplingOptions sampling;
    DecodingOptions decoding;
    bool cached = true;  // else every token is computed from the beginning
  };
  // Prompts that a rank works on side by side; the next ones wait.
  static constexpr int64_t kPromptsAtOnce = 16;

  // What it is given must outlive it. The model's mixtures should be dropless: an answer would
  // depend on the prompts beside it otherwise.
  Generator(Kernels& kernels, const Groups& groups, Model& model, const Vocabulary& vocabulary,
            const Options& options);

  using OnToken = std::function<void(int64_t prompt, int32_t id)>;
  // The answers, in the prompts' order, without their end of text; each ends there or after
  // decoding.max_tokens. Prompt number i is computed by rank i modulo the number of ranks. Every
  // rank calls it with the same prompts and gets all answers.
  //   prompts   at least one id each
  //   on_token  called at once for each token that this rank computes
  std::vector<std::vector<int32_t>> answer(const std::vector<std::vector<int32_t>>& prompts,
                                           const OnToken& on_token = {});

 private:
  using Answers = std::vector<std::vector<int32_t>>;
  DecoderSequence begin(const std::vector<int32_t>& prompt) const;
  //   numbers  of this rank's prompts of a round
  void answer_round(const Answers& prompts, const std::vector<int64_t>& numbers,
                    const OnToken& on_token, Answers& answers);
  // Tells all ranks what each has computed.
  void share(Answers& answers) const;

  const Groups& groups_;
  Model& model_;
  Vocabulary vocabulary_;
  Options options_;
  TokenSampler sample_;
  Workspace workspace_;
};

}  // namespace switchyard
