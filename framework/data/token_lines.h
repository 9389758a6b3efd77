// Files of token ids that a model is given as they stand, a JSON object on each line, with the
// names of Hugging Face transformers: what `logits` and `generate` read. Nothing is added to the
// ids, and nothing that a line says is passed over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace switchyard {

// What a model reads for one sequence. Masks: 1 for a token, 0 for padding; empty: no padding.
struct GivenTokens {
  std::vector<int32_t> input_ids;  // of the encoder, or where there is none of the decoder
  std::vector<int32_t> attention_mask;
  std::vector<int32_t> position_ids;       // empty: 0, 1, ...
  std::vector<int32_t> decoder_input_ids;  // of an encoder-decoder
  std::vector<int32_t> decoder_attention_mask;
};

// Which keys a line has.
enum class TokenLineKeys : uint8_t {
  kPrompt,          // input_ids
  kDecoder,         // input_ids; if need be attention_mask, position_ids
  kEncoderDecoder,  // input_ids, decoder_input_ids; if need be attention_mask,
                    // decoder_attention_mask
};

// Ids of one list at most.
inline constexpr int64_t kMaxGivenIds = int64_t{1} << 20;

// The sequences of the file, one at least; it may be compressed (gzip). Every list has ids, a mask
// or positions as many numbers as its ids.
//   vocabulary  V: ids lie below
// Throws InputError naming file:line and the key.
std::vector<GivenTokens> read_token_lines(const std::filesystem::path& path, TokenLineKeys keys,
                                          int64_t vocabulary);

// One line of it; `where` names it in errors.
GivenTokens parse_token_line(std::string_view line, TokenLineKeys keys, int64_t vocabulary,
                             const std::string& where);

}  // namespace switchyard
