#include "data/causal_source.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "base/reused_memory.h"
#include "data/dataset_source.h"

namespace switchyard {

static const TokenFile& tokens_of(const Dataset& dataset, Split split) {
  const TokenFile& tokens = dataset.tokens(split);
  if (tokens.token_count() == 0) {
    throw InputError(std::string("the ") + name_of(split) + " split has no text",
                     dataset.directory().string(), "build the dataset from more text");
  }
  return tokens;
}

CausalSource::CausalSource(const Dataset& dataset, Split split, const Options& options)
    : dataset_(&dataset),
      tokens_(&tokens_of(dataset, split)),
      options_(options),
      closing_(dataset.vocabulary().eos ? 1 : 0),
      sampler_(row_count(), options.seed),
      epoch_size_(sampler_.epoch_size()) {}

std::unique_ptr<CausalSource> CausalSource::evaluation(const Dataset& dataset, Split split,
                                                       Options options, int64_t rows) {
  SWITCHYARD_CHECK(rows >= 1, rows, " rows");
  options.seed = kEvaluationSeed;
  auto source = std::make_unique<CausalSource>(dataset, split, options);
  source->epoch_size_ = std::min(source->epoch_size_, rows);
  source->endless_ = false;
  return source;
}

int64_t CausalSource::document_begin(int64_t document) const {
  return tokens_->document_begin(document) + document * closing_;
}

int64_t CausalSource::document_at(int64_t place) const {
  int64_t first = 0, last = tokens_->document_count() - 1;
  while (first < last) {
    const int64_t middle = (first + last + 1) / 2;
    if (document_begin(middle) <= place) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return first;
}

int64_t CausalSource::row_count() const {
  SWITCHYARD_CHECK(options_.length >= 2, "rows of ", options_.length, " tokens");
  return (token_count() + options_.length - 1) / options_.length;
}

void CausalSource::add_documents(int64_t row, TokenBatch& batch) const {
  int64_t place = row * options_.length;
  const int64_t row_end = std::min(place + options_.length, token_count());
  ReusedVector<int32_t> ids;
  ids.reserve(static_cast<size_t>(options_.length) + 1);
  for (int64_t document = document_at(place); place < row_end; ++document) {
    const int64_t begin = document_begin(document), end = document_begin(document + 1);
    if (begin == end) continue;
    const int64_t read = std::min(row_end, end) - place;
    // The token after the row is a target still.
    const int64_t known = std::min(place + read + 1, end) - place;
    const bool closed = place + known == end && closing_ == 1;
    ids.resize(static_cast<size_t>(known - (closed ? 1 : 0)));
    tokens_->read(tokens_->document_begin(document) + place - begin, ids);
    if (closed) ids.push_back(*vocabulary().eos);
    batch.add_text(ids, read, 0, tokens_->document_label(document));
    place += read;
  }
}

void CausalSource::fill(std::span<const int64_t> global_indices, TokenBatch& batch) const {
  batch.reset(inputs_width(), targets_width(), /*is_packed=*/true);
  for (const int64_t index : global_indices) {
    SWITCHYARD_CHECK(endless_ || index < epoch_size_, "evaluation row ", index, " of ",
                     epoch_size_);
    batch.add_row(vocabulary().filler());
    add_documents(sampler_(index).segment, batch);
  }
}

}  // namespace switchyard
