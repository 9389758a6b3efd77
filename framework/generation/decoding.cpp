#include "generation/decoding.h"

#include <algorithm>
#include <optional>

#include "generation/token_rows.h"

namespace switchyard {
namespace {

size_t longest_of(const std::vector<DecoderSequence>& sequences,
                  std::vector<int32_t> DecoderSequence::*ids) {
  size_t longest = 0;
  for (const DecoderSequence& sequence : sequences) {
    longest = std::max(longest, (sequence.*ids).size());
  }
  return longest;
}

// One kind of ids of all sequences from the left.
HostRows padded(const std::vector<DecoderSequence>& sequences,
                std::vector<int32_t> DecoderSequence::*ids) {
  HostRows host(sequences.size(), longest_of(sequences, ids));
  for (size_t row = 0; row < sequences.size(); ++row) {
    const std::vector<int32_t>& its = sequences[row].*ids;
    for (size_t i = 0; i < its.size(); ++i) host.put(row, i, its[i], i);
  }
  return host;
}

HostRows aligned_at_the_end(const std::vector<DecoderSequence>& sequences) {
  HostRows host(sequences.size(), longest_of(sequences, &DecoderSequence::ids));
  for (size_t row = 0; row < sequences.size(); ++row) {
    const std::vector<int32_t>& ids = sequences[row].ids;
    const size_t padding = static_cast<size_t>(host.length) - ids.size();
    for (size_t i = 0; i < ids.size(); ++i) host.put(row, padding + i, ids[i], i);
  }
  return host;
}

HostRows last_tokens(const std::vector<DecoderSequence>& sequences) {
  HostRows host(sequences.size(), 1);
  for (size_t row = 0; row < sequences.size(); ++row) {
    const std::vector<int32_t>& ids = sequences[row].ids;
    if (!sequences[row].done) host.put(row, 0, ids.back(), ids.size() - 1);
  }
  return host;
}

// Appends a row of logits [T, V].
void append_row(LayerContext& ctx, TensorView logits, int64_t row, std::vector<double>& numbers) {
  const std::vector<double> of_row = read_back_numbers(ctx, logits.rows(row, row + 1));
  numbers.insert(numbers.end(), of_row.begin(), of_row.end());
}

class CachedDecoding : public Decoding {
 public:
  CachedDecoding(Model& model, Workspace& workspace, const DecodingOptions& options)
      : model_(model), workspace_(workspace), options_(options) {}

  std::vector<double> next(const std::vector<DecoderSequence>& sequences) override {
    const bool first = !cache_;
    if (first) start(sequences);
    LayerContext ctx = workspace_.context(false, 0);
    const HostRows host = first ? aligned_at_the_end(sequences) : last_tokens(sequences);
    const DeviceRows tokens(ctx, host);
    const TensorView logits = model_.step(ctx, tokens.rows(), *cache_);
    std::vector<double> numbers;
    for (int64_t row = 0; row < host.sequences; ++row) {
      append_row(ctx, logits, (row + 1) * host.length - 1, numbers);
    }
    workspace_.release();
    return numbers;
  }

 private:
  void start(const std::vector<DecoderSequence>& sequences) {
    LayerContext ctx = workspace_.context(false, 0);
    HostRows host(0, 1);
    if (options_.has_encoder) host = padded(sequences, &DecoderSequence::encoder_ids);
    const DeviceRows encoder(ctx, host, options_.encoder_length);
    const auto longest = static_cast<int64_t>(longest_of(sequences, &DecoderSequence::ids));
    cache_ = model_.start(ctx, encoder.rows(), std::ssize(sequences),
                          std::max<int64_t>(longest, 1) + options_.max_tokens);
    workspace_.release();
  }

  Model& model_;
  Workspace& workspace_;
  DecodingOptions options_;
  std::optional<Stack::Cache> cache_;
};

class UncachedDecoding : public Decoding {
 public:
  UncachedDecoding(Model& model, Workspace& workspace, const DecodingOptions& options)
      : model_(model), workspace_(workspace), options_(options) {}

  std::vector<double> next(const std::vector<DecoderSequence>& sequences) override {
    LayerContext ctx = workspace_.context(false, 0);
    HostRows inputs(0, 1);
    if (options_.has_encoder) inputs = padded(sequences, &DecoderSequence::encoder_ids);
    const HostRows host = padded(sequences, &DecoderSequence::ids);
    const DeviceRows encoder(ctx, inputs, options_.encoder_length), decoder(ctx, host);
    const TensorView logits =
        model_.logits(ctx, {.encoder = encoder.rows(), .decoder = decoder.rows()});
    std::vector<double> numbers;
    for (int64_t row = 0; row < host.sequences; ++row) {
      const int64_t last = std::ssize(sequences[static_cast<size_t>(row)].ids) - 1;
      append_row(ctx, logits, row * host.length + last, numbers);
    }
    workspace_.release();
    return numbers;
  }

 private:
  Model& model_;
  Workspace& workspace_;
  DecodingOptions options_;
};

}  // namespace

std::unique_ptr<Decoding> make_cached_decoding(Model& model, Workspace& workspace,
                                               const DecodingOptions& options) {
  return std::make_unique<CachedDecoding>(model, workspace, options);
}

std::unique_ptr<Decoding> make_uncached_decoding(Model& model, Workspace& workspace,
                                                 const DecodingOptions& options) {
  return std::make_unique<UncachedDecoding>(model, workspace, options);
}

}  // namespace switchyard
