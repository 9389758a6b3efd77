// Where training and evaluation take their batches from. A batch is asked for by global sample
// indices, so that what a rank gets depends on nothing but those numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

// Rows of samples, padded with 0 (kPadId) to the source's widths.
struct TokenBatch {
  int64_t rows = 0;
  int inputs_width = 0, targets_width = 0;
  std::vector<int32_t> inputs;   // [rows, inputs_width]
  std::vector<int32_t> targets;  // [rows, targets_width]
  std::vector<int32_t> labels;   // [rows], into TokenSource::label_names()
};

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  virtual int inputs_width() const = 0;   // tokens of a row of inputs, S of the encoder
  virtual int targets_width() const = 0;  // tokens of a row of targets, S of the decoder
  virtual int vocabulary() const = 0;     // every id lies below; a multiple of 128
  virtual const std::vector<std::string>& label_names() const = 0;

  // Samples after which the source starts over in another order, at least 1; a source of evaluation
  // samples has these and no more.
  virtual int64_t epoch_size() const = 0;

  // Fills `batch` with one row for each index, in this order; no index gives a batch of 0 rows.
  // A pure function of the index; threads may call it at once. Indices are >= 0.
  // Throws InputError when the data behind is damaged.
  virtual void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const = 0;
};

}  // namespace switchyard
