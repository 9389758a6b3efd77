// Where training and evaluation take their batches from. A batch is asked for by global sequence
// indices, so that what a rank gets depends on nothing but those numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/vocabulary.h"

namespace switchyard {

// Rows of one sample each or, packed, of several samples one after the other (its segments, which
// attention keeps apart). Where the source is causal a sample is a text: its inputs are what a
// decoder alone reads, and the target at a place is the next token.
struct TokenBatch {
  int64_t rows = 0;
  int inputs_width = 0, targets_width = 0;
  bool packed = false;           // whether rows may hold several samples, whatever these hold
  std::vector<int32_t> inputs;   // [rows, inputs_width]
  std::vector<int32_t> targets;  // [rows, targets_width]
  // Of each token its sample's number in the row, from 1; 0 for padding, and for a target where
  // nothing is predicted.
  std::vector<int32_t> inputs_segment;   // [rows, inputs_width]
  std::vector<int32_t> targets_segment;  // [rows, targets_width]
  std::vector<int32_t> labels;           // of each sample, row by row, into label_names()
  std::vector<int64_t> first_sample;     // [rows + 1]: into labels

  int label_of(int64_t row, int32_t segment) const {
    return labels[static_cast<size_t>(first_sample[static_cast<size_t>(row)] + segment - 1)];
  }

  // Empties the batch for rows of these widths.
  void reset(int inputs_width, int targets_width, bool packed = false);
  // Appends a row of padding.
  void add_row(int32_t filler);
  // Puts a sample behind those of the last row, where it must fit.
  void add_sample(std::span<const int32_t> inputs, std::span<const int32_t> targets, int label);
  // The same for a text of a causal source; both widths are equal.
  //   ids           of the text, a decoder's input and targets in one
  //   read          of them that stand in the row: all, or all but one, which is a target only
  //   first_target  place in `ids` of the first one that is predicted; never the first id
  void add_text(std::span<const int32_t> ids, int64_t read, int64_t first_target, int label);
  // Appends the rows of a batch of the same widths.
  void append(const TokenBatch& other);

 private:
  int32_t begin_sample(int label);  // returns its number in the last row

  int64_t inputs_end_ = 0, targets_end_ = 0;  // of what the last row holds
};

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  // Whether rows are texts for a decoder alone, see TokenBatch.
  virtual bool causal() const { return false; }
  virtual int inputs_width() const = 0;   // tokens of a row of inputs, S of the encoder
  virtual int targets_width() const = 0;  // tokens of a row of targets, S of the decoder
  virtual const Vocabulary& vocabulary() const = 0;
  virtual const std::vector<std::string>& label_names() const = 0;

  // Rows after which the source starts over in another order, at least 1; a source of evaluation
  // rows has these and no more.
  virtual int64_t epoch_size() const = 0;

  // Fills `batch` with one row for each index, in this order; no index gives a batch of 0 rows.
  // A pure function of the index; threads may call it at once. Indices are >= 0.
  // Throws InputError when the data behind is damaged.
  virtual void fill(std::span<const int64_t> global_indices, TokenBatch& batch) const = 0;
};

}  // namespace switchyard
