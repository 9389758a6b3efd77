#include "data/pair_examples.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"

namespace switchyard {

static int64_t document_tokens(const TokenFile& tokens, int64_t document) {
  return tokens.document_begin(document + 1) - tokens.document_begin(document);
}

PairExamples::PairExamples(const Dataset& dataset, Split split, int inputs_length,
                           int targets_length)
    : dataset_(&dataset), tokens_(&dataset.tokens(split)) {
  SWITCHYARD_CHECK(dataset.listing().examples == ExampleKind::kPairs, "text is no pairs");
  SWITCHYARD_CHECK(inputs_length >= 2 && targets_length >= 2, inputs_length, " and ",
                   targets_length);
  const int closing = dataset.vocabulary().eos ? 1 : 0;
  room_[0] = inputs_length - closing;
  room_[1] = targets_length - closing;
  if (size() == 0) {
    throw InputError(std::string("the ") + name_of(split) + " split has no example",
                     dataset.directory().string(), "build the dataset from more examples");
  }
}

int PairExamples::kept(int64_t document) const {
  return static_cast<int>(
      std::min<int64_t>(document_tokens(*tokens_, document), room_[document % 2]));
}

SampleLengths PairExamples::lengths(int64_t example) const {
  const int closing = dataset_->vocabulary().eos ? 1 : 0;
  return {kept(2 * example) + closing, kept(2 * example + 1) + closing};
}

Sample PairExamples::sample(int64_t example, const SampleKey&) const {
  const auto side = [&](int64_t document) {
    ReusedVector<int32_t> ids;
    ids.reserve(static_cast<size_t>(room_[document % 2]) + 1);
    ids.resize(static_cast<size_t>(kept(document)));
    tokens_->read(tokens_->document_begin(document), ids);
    if (dataset_->vocabulary().eos) ids.push_back(*dataset_->vocabulary().eos);
    return ids;
  };
  return {side(2 * example), side(2 * example + 1), tokens_->document_label(2 * example), example};
}

CutExamples count_cut(const Dataset& dataset, Split split, int inputs_length, int targets_length) {
  const TokenFile& tokens = dataset.tokens(split);
  const int closing = dataset.vocabulary().eos ? 1 : 0;
  CutExamples cut;
  for (int64_t document = 0; document + 1 < tokens.document_count(); document += 2) {
    cut.inputs += document_tokens(tokens, document) > inputs_length - closing;
    cut.targets += document_tokens(tokens, document + 1) > targets_length - closing;
  }
  return cut;
}

}  // namespace switchyard
