#include "generation/model_outputs.h"

#include <algorithm>
#include <numeric>

#include "generation/token_rows.h"

namespace switchyard {
namespace {

using Ids = std::vector<int32_t>;

// One of the tensors to be: its part for a sequence with S positions is [S, columns].
struct Column {
  std::string name;
  bool of_encoder = false;
  bool integers = false;
  int64_t columns = 0;
};

// A sequence's part of every tensor, one after the other.
struct Part {
  std::vector<float> floats;
  std::vector<int32_t> integers;
};

class OutputsOfModel {
 public:
  OutputsOfModel(Kernels& kernels, const Groups& groups, Model& model,
                 const std::vector<GivenTokens>& sequences, int64_t vocabulary, bool has_encoder)
      : world_(*groups.world),
        model_(model),
        sequences_(sequences),
        has_encoder_(has_encoder),
        workspace_(kernels, groups, 0) {
    columns_.push_back({.name = "logits", .columns = vocabulary});
  }

  std::vector<OutputTensor> run() {
    const int64_t ranks = world_.size(), all = std::ssize(sequences_);
    for (int64_t first = 0; first < all; first += ranks) {
      const int64_t mine = first + world_.rank();
      const Part part = compute(mine < all ? &sequences_[static_cast<size_t>(mine)] : nullptr);
      const int64_t end = std::min(first + ranks, all);
      keep(gathered(part.floats, first, end, false), first, end, false);
      keep(gathered(part.integers, first, end, true), first, end, true);
    }
    if (world_.rank() == 0) add_lengths();
    return std::move(tensors_);
  }

 private:
  static HostRows host_rows(const Ids& ids, const Ids& mask, const Ids& positions) {
    HostRows host(1, ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      const size_t position = positions.empty() ? i : static_cast<size_t>(positions[i]);
      host.put(0, i, ids[i], position, mask.empty() || mask[i] == 1);
    }
    return host;
  }
  HostRows encoder_rows(const GivenTokens* given) const {
    if (given == nullptr || !has_encoder_) return {0, 1};
    return host_rows(given->input_ids, given->attention_mask, {});
  }
  HostRows decoder_rows(const GivenTokens* given) const {
    if (given == nullptr) return {0, 1};
    if (has_encoder_) {
      return host_rows(given->decoder_input_ids, given->decoder_attention_mask, {});
    }
    return host_rows(given->input_ids, given->attention_mask, given->position_ids);
  }

  //   given  null: this rank has no sequence, but maybe experts for those of others
  Part compute(const GivenTokens* given) {
    LayerContext ctx = workspace_.context(false, 0);
    const DeviceRows encoder(ctx, encoder_rows(given)), decoder(ctx, decoder_rows(given));
    const TensorView logits =
        model_.logits(ctx, {.encoder = encoder.rows(), .decoder = decoder.rows()});
    Part part;
    append(ctx, logits, part.floats);
    const std::vector<MoeLayer*> layers = model_.moe_layers();
    const std::vector<MoeDecisions*> decisions = model_.decisions();
    const bool names_columns = columns_.size() == 1;
    for (size_t i = 0; i < layers.size(); ++i) {
      // Decisions are part of what a layer has saved, which holds the probabilities too.
      const auto& saved = static_cast<const MoeLayer::Saved&>(*decisions[i]);
      if (names_columns) add_columns(*layers[i], saved);
      append(ctx, saved.routing->weight, part.floats);
      append(ctx, saved.routing->probs, part.floats);
      append(ctx, saved.expert, part.integers);
      append(ctx, saved.kept, part.integers);
    }
    workspace_.release();
    return part;
  }

  void add_columns(const MoeLayer& layer, const MoeLayer::Saved& saved) {
    const bool encoder = layer.stack() == StackKind::kEncoder;
    const auto add = [&](const char* what, TensorView x, bool integers) {
      columns_.push_back({layer.name() + what, encoder, integers, x.shape()[1]});
    };
    add(".weights", saved.routing->weight, false);
    add(".probabilities", saved.routing->probs, false);
    add(".chosen", saved.expert, true);
    add(".kept", saved.kept, true);
  }

  static void append(LayerContext& ctx, TensorView x, std::vector<float>& numbers) {
    for (const double number : read_back_numbers(ctx, x)) {
      numbers.push_back(static_cast<float>(number));
    }
  }
  static void append(LayerContext& ctx, TensorView x, std::vector<int32_t>& numbers) {
    const Ids read = read_back_as<int32_t>(ctx, x);
    numbers.insert(numbers.end(), read.begin(), read.end());
  }

  int64_t length_of(int64_t sequence, bool encoder) const {
    const GivenTokens& given = sequences_[static_cast<size_t>(sequence)];
    return std::ssize(has_encoder_ && !encoder ? given.decoder_input_ids : given.input_ids);
  }
  // Numbers of one kind that a sequence's part has.
  int64_t size_of_part(int64_t sequence, bool integers) const {
    int64_t size = 0;
    for (const Column& column : columns_) {
      if (column.integers != integers) continue;
      size += length_of(sequence, column.of_encoder) * column.columns;
    }
    return size;
  }

  // The parts of sequences [first, end), one a rank, one after the other.
  template <typename T>
  std::vector<T> gathered(const std::vector<T>& mine, int64_t first, int64_t end,
                          bool integers) const {
    std::vector<int64_t> counts(static_cast<size_t>(world_.size()));
    for (int64_t i = first; i < end; ++i) {
      counts[static_cast<size_t>(i - first)] = size_of_part(i, integers);
    }
    std::vector<T> all(static_cast<size_t>(std::reduce(counts.begin(), counts.end())));
    InlineStream stream;
    const auto view = [](const std::vector<T>& numbers) {
      return TensorView(const_cast<T*>(numbers.data()), DTypeOf<T>::value, {std::ssize(numbers)});
    };
    world_.all_gather(stream, view(mine), counts, view(all))->wait();
    return all;
  }

  // Rank 0 puts the parts of sequences [first, end) where they belong.
  template <typename T>
  void keep(const std::vector<T>& parts, int64_t first, int64_t end, bool integers) {
    if (world_.rank() != 0) return;
    if (tensors_.empty()) make_tensors();
    const T* next = parts.data();
    for (int64_t sequence = first; sequence < end; ++sequence) {
      for (size_t i = 0; i < columns_.size(); ++i) {
        if (columns_[i].integers != integers) continue;
        const TensorView whole = tensors_[i].values;
        const int64_t count = length_of(sequence, columns_[i].of_encoder) * columns_[i].columns;
        std::copy_n(next, count, whole.data<T>() + sequence * whole.shape()[1] * whole.shape()[2]);
        next += count;
      }
    }
  }

  void make_tensors() {
    const auto longest = [&](bool encoder) {
      int64_t most = 0;
      for (int64_t i = 0; i < std::ssize(sequences_); ++i) {
        most = std::max(most, length_of(i, encoder));
      }
      return most;
    };
    for (const Column& column : columns_) {
      const Shape shape = {std::ssize(sequences_), longest(column.of_encoder), column.columns};
      Tensor values(column.integers ? DType::kInt32 : DType::kFloat32, shape);
      if (column.integers) {
        std::fill_n(values.data<int32_t>(), values.elements(), -1);
      } else {
        std::fill_n(values.data<float>(), values.elements(), 0.0f);
      }
      tensors_.push_back({column.name, std::move(values)});
    }
  }

  void add_lengths() {
    for (const bool encoder : {false, true}) {
      if (encoder && !has_encoder_) continue;
      Tensor lengths(DType::kInt32, {std::ssize(sequences_)});
      for (int64_t i = 0; i < std::ssize(sequences_); ++i) {
        lengths.data<int32_t>()[i] = static_cast<int32_t>(length_of(i, encoder));
      }
      tensors_.push_back({encoder ? "encoder_lengths" : "lengths", std::move(lengths)});
    }
  }

  Collectives& world_;
  Model& model_;
  const std::vector<GivenTokens>& sequences_;
  bool has_encoder_;
  Workspace workspace_;
  std::vector<Column> columns_;
  std::vector<OutputTensor> tensors_;  // of rank 0: one for each column
};

}  // namespace

std::vector<OutputTensor> model_outputs(Kernels& kernels, const Groups& groups, Model& model,
                                        const std::vector<GivenTokens>& sequences,
                                        int64_t vocabulary, bool has_encoder) {
  return OutputsOfModel(kernels, groups, model, sequences, vocabulary, has_encoder).run();
}

}  // namespace switchyard
