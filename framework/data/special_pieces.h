// The special pieces of any SentencePiece model, also of one that the tokenizer here can't read
// text with.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard {

struct SpecialPiece {
  int id = -1;       // -1: there is none
  std::string text;  // "</s>"
};

struct SpecialPieces {
  SpecialPiece pad = {}, bos = {}, eos = {}, unknown = {};
};

// Throws InputError when the file is missing or no SentencePiece model.
SpecialPieces read_special_pieces(const std::filesystem::path& path);

}  // namespace switchyard
