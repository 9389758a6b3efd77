#include "generation/generator.h"

#include <algorithm>
#include <numeric>

#include "trainer/metrics.h"

namespace switchyard {

Generator::Generator(Kernels& kernels, const Groups& groups, Model& model,
                     const Vocabulary& vocabulary, const Options& options)
    : groups_(groups),
      model_(model),
      vocabulary_(vocabulary),
      options_(options),
      sample_(options.sampling, vocabulary),
      workspace_(kernels, groups, 0) {}

DecoderSequence Generator::begin(const std::vector<int32_t>& prompt) const {
  SWITCHYARD_CHECK(!prompt.empty(), "a prompt without tokens");
  if (options_.decoding.has_encoder) {
    return {.encoder_ids = prompt, .ids = {vocabulary_.start()}};
  }
  return {.ids = prompt};
}

void Generator::answer_round(const Answers& prompts, const std::vector<int64_t>& numbers,
                             const OnToken& on_token, Answers& answers) {
  std::vector<DecoderSequence> sequences;
  for (const int64_t number : numbers) {
    sequences.push_back(begin(prompts[static_cast<size_t>(number)]));
  }
  const auto make = options_.cached ? make_cached_decoding : make_uncached_decoding;
  const std::unique_ptr<Decoding> decoding = make(model_, workspace_, options_.decoding);
  for (int64_t position = 0; position < options_.decoding.max_tokens; ++position) {
    const std::vector<double> logits = decoding->next(sequences);
    double open = 0;
    for (size_t row = 0; row < sequences.size(); ++row) {
      if (sequences[row].done) continue;
      const size_t width = logits.size() / sequences.size();
      const int32_t id = sample_({&logits[row * width], width}, numbers[row], position);
      sequences[row].done = id == vocabulary_.eos;
      if (sequences[row].done) continue;
      sequences[row].ids.push_back(id);
      answers[static_cast<size_t>(numbers[row])].push_back(id);
      if (on_token) on_token(numbers[row], id);
      open += 1;
    }
    // Experts of this rank may be wanted by others.
    if (sum_over_ranks(*groups_.world, {open}).front() == 0) break;
  }
}

void Generator::share(Answers& answers) const {
  Collectives& world = *groups_.world;
  const auto ranks = static_cast<size_t>(world.size()), rank = static_cast<size_t>(world.rank());
  std::vector<int64_t> mine;
  for (size_t i = rank; i < answers.size(); i += ranks) {
    mine.push_back(std::ssize(answers[i]));
    mine.insert(mine.end(), answers[i].begin(), answers[i].end());
  }
  std::vector<double> counts(ranks);
  counts[rank] = static_cast<double>(mine.size());
  counts = sum_over_ranks(world, counts);
  const std::vector<int64_t> parts(counts.begin(), counts.end());
  std::vector<int64_t> all(static_cast<size_t>(std::reduce(parts.begin(), parts.end())));
  InlineStream stream;
  const auto view = [](std::vector<int64_t>& numbers) {
    return TensorView(numbers.data(), DType::kInt64, {std::ssize(numbers)});
  };
  world.all_gather(stream, view(mine), parts, view(all))->wait();
  auto next = all.begin();
  for (size_t from = 0; from < ranks; ++from) {
    for (size_t i = from; i < answers.size(); i += ranks) {
      const int64_t count = *next++;
      answers[i].assign(next, next + count);
      next += count;
    }
  }
}

Generator::Answers Generator::answer(const Answers& prompts, const OnToken& on_token) {
  const int64_t ranks = groups_.world->size(), in_round = ranks * kPromptsAtOnce;
  Answers answers(prompts.size());
  for (int64_t first = 0; first < std::ssize(prompts); first += in_round) {
    std::vector<int64_t> numbers;
    const int64_t end = std::min(first + in_round, std::ssize(prompts));
    for (int64_t i = first + groups_.world->rank(); i < end; i += ranks) numbers.push_back(i);
    answer_round(prompts, numbers, on_token, answers);
  }
  share(answers);
  return answers;
}

}  // namespace switchyard
