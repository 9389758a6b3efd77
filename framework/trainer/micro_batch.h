// A rank's part of a micro-batch: samples turned into what a model reads, on the host, then on the
// device. Filled again, it keeps its memory.
#pragma once

#include <vector>

#include "data/token_source.h"
#include "models/model.h"
#include "trainer/batch_layout.h"

namespace switchyard {

class MicroBatch {
 public:
  // Without sequences until fill() is called.
  MicroBatch() = default;
  // Takes sequences [b0, b1) of the global batch, for the group boundaries b0 .. b1 in sequences.
  //   first_sample  sample number of the global batch's sequence 0
  MicroBatch(const TokenSource& source, const BatchLayout& layout, int64_t micro_batch,
             int64_t rank, int64_t first_sample);
  // The same of another global batch.
  void fill(const TokenSource& source, const BatchLayout& layout, int64_t micro_batch, int64_t rank,
            int64_t first_sample);

  int64_t target_tokens() const { return target_tokens_; }  // that carry loss
  int64_t real_tokens() const { return real_tokens_; }      // that encoder and decoder read
  int64_t sequences() const { return samples_.rows; }
  // Target number t stands in row t / targets_width; label_of() tells a segment's label.
  const TokenBatch& samples() const { return samples_; }

  // The same on ctx's device, in ctx.saved. The result borrows this object.
  ModelBatch upload_to(LayerContext& ctx) const;

 private:
  struct Side {
    std::vector<int32_t> ids;
    std::vector<uint8_t> real;
    std::vector<int32_t> segment, position, label;
    std::vector<int64_t> global_index;
    std::vector<int64_t> group_offsets;
    int64_t length = 0;
  };
  TokenRows upload_side(LayerContext& ctx, const Side& side, bool with_segments) const;
  void fill_encoder();
  void fill_decoder(int32_t start);
  void fill_decoder_alone();
  void set_groups(Side& side, int64_t length);
  void set_segments(Side& side, const std::vector<int32_t>& segment);

  TokenBatch samples_;
  std::vector<int64_t> sample_numbers_;
  int64_t first_sequence_ = 0, group_sequences_ = 1, groups_of_global_batch_ = 0;
  std::vector<int64_t> sequence_bounds_;  // of this rank's groups, from 0
  bool causal_ = false;                   // the encoder has no rows then
  Side encoder_, decoder_;
  std::vector<int32_t> targets_;
  int64_t target_tokens_ = 0, real_tokens_ = 0;
};

}  // namespace switchyard
