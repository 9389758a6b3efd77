#include "generation/decoding.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace switchyard {
namespace {

// Rows of tokens on the host; 0 stands where there is none.
struct HostRows {
  int64_t sequences = 0, length = 1;
  std::vector<int32_t> ids, position, segment;  // [B, S]

  HostRows(size_t count, size_t longest)
      : sequences(static_cast<int64_t>(count)), length(std::max<int64_t>(longest, 1)) {
    for (std::vector<int32_t>* part : {&ids, &position, &segment}) {
      part->resize(static_cast<size_t>(sequences * length));
    }
  }
  // A real token at a place of a row.
  void put(size_t row, size_t place, int32_t id, size_t its_position) {
    const size_t at = row * static_cast<size_t>(length) + place;
    ids[at] = id;
    position[at] = static_cast<int32_t>(its_position);
    segment[at] = 1;
  }
};

// The same where the model reads them, in ctx.saved; each sequence is a routing group.
class DeviceRows {
 public:
  //   group_tokens  0: the rows' length
  DeviceRows(LayerContext& ctx, const HostRows& host, int64_t group_tokens = 0) {
    for (int64_t b = 0; b <= host.sequences; ++b) {
      sequences_.push_back(b);
      offsets_.push_back(b * host.length);
    }
    std::vector<int64_t> index(host.ids.size());
    std::iota(index.begin(), index.end(), 0);
    const std::vector<uint8_t> real(host.segment.begin(), host.segment.end());
    rows_ = {.sequences = host.sequences,
             .length = host.length,
             .ids = to_device(ctx, host.ids),
             .global_index = to_device(ctx, index),
             .real = to_device(ctx, real),
             .position = to_device(ctx, host.position),
             .segment = to_device(ctx, host.segment).reshape({host.sequences, host.length}),
             .group_offsets = offsets_,
             .group_sequences = sequences_,
             .group_tokens = group_tokens > 0 ? group_tokens : host.length,
             .groups_of_global_batch = std::max<int64_t>(host.sequences, 1)};
  }
  DeviceRows(const DeviceRows&) = delete;
  DeviceRows& operator=(const DeviceRows&) = delete;

  const TokenRows& rows() const { return rows_; }

 private:
  std::vector<int64_t> sequences_, offsets_;
  TokenRows rows_;
};

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
  TensorView view = logits.rows(row, row + 1);
  if (view.dtype() == DType::kBFloat16) {
    const TensorView wide = ctx.saved.allocate(DType::kFloat32, view.shape());
    copy(ctx, view, wide);
    view = wide;
  }
  const auto append = [&](const auto& row_numbers) {
    numbers.insert(numbers.end(), row_numbers.begin(), row_numbers.end());
  };
  if (view.dtype() == DType::kFloat64) {
    append(read_back_as<double>(ctx, view));
  } else {
    append(read_back_as<float>(ctx, view));
  }
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
