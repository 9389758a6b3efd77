#include "data/special_pieces.h"

#include <sentencepiece_processor.h>

#include "base/errors.h"
#include "data/mapped_file.h"

namespace switchyard {

SpecialPieces read_special_pieces(const std::filesystem::path& path) {
  const MappedFile file(path);
  sentencepiece::SentencePieceProcessor processor;
  const std::string_view bytes = file.text();
  if (bytes.empty() || !processor.LoadFromSerializedProto({bytes.data(), bytes.size()}).ok()) {
    throw InputError("the file is no SentencePiece model", path.string(),
                     "give a SentencePiece model");
  }
  const auto piece = [&](int id) {
    return id < 0 ? SpecialPiece{} : SpecialPiece{id, processor.IdToPiece(id)};
  };
  return {.pad = piece(processor.pad_id()),
          .bos = piece(processor.bos_id()),
          .eos = piece(processor.eos_id()),
          .unknown = piece(processor.unk_id())};
}

}  // namespace switchyard
