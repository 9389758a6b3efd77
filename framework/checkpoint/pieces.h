// Which slices of which tensors lie in which file of a checkpoint.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/verified_file.h"

namespace switchyard {

// A slice in its file and the tensor that it is of.
struct Piece {
  const ManifestTensor* tensor = nullptr;
  size_t slice = 0;

  const TensorSlice& place() const { return tensor->slices[slice]; }
};

// By file, in the order of their bytes; of files without tensors nothing. Points into the manifest.
using PiecesByFile = std::map<std::string, std::vector<Piece>>;
PiecesByFile pieces_by_file(const Manifest& manifest);

// Compares what a file of tensors says of itself with what the manifest says of it.
//   pieces  all of this file
// Throws CheckpointError naming file and tensor.
void check_header(VerifiedFile& file, const std::vector<Piece>& pieces);

}  // namespace switchyard
