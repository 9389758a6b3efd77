// The logits of the next token of several sequences, again and again as they grow: with the keys
// and values of earlier tokens kept, or computed from the beginning each time.
#pragma once

#include <memory>
#include <vector>

#include "models/model.h"
#include "trainer/workspace.h"

namespace switchyard {

struct DecoderSequence {
  std::vector<int32_t> encoder_ids;  // what the encoder reads; empty in models without one
  std::vector<int32_t> ids;          // what the decoder reads: at least one
  bool done = false;                 // its logits aren't wanted any more
};

struct DecodingOptions {
  bool has_encoder = false;
  // Tokens of an encoder's routing group, a sequence each, padding counted: capacity is shared out
  // as for inputs of this length, whatever other prompts there are.
  int64_t encoder_length = 0;
  int64_t max_tokens = 0;  // that a sequence grows by, at most
};

class Decoding {
 public:
  virtual ~Decoding() = default;
  // [B, V] of the token after each sequence; those of a sequence that is done mean nothing. Between
  // calls each sequence that isn't done has grown by one token. Every rank calls it, as often as
  // all others, without sequences too.
  virtual std::vector<double> next(const std::vector<DecoderSequence>& sequences) = 0;
};

// The model and the workspace must outlive them. Sequences of different lengths are aligned at
// their ends where keys and values are kept, at their beginnings where they aren't.
std::unique_ptr<Decoding> make_cached_decoding(Model& model, Workspace& workspace,
                                               const DecodingOptions& options);
std::unique_ptr<Decoding> make_uncached_decoding(Model& model, Workspace& workspace,
                                                 const DecodingOptions& options);

}  // namespace switchyard
