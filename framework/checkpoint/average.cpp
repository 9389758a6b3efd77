#include "checkpoint/average.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/errors.h"
#include "safetensors/elements.h"

namespace switchyard {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

std::vector<const ManifestTensor*> weights_of(const Checkpoint& checkpoint) {
  std::vector<const ManifestTensor*> weights;
  for (const ManifestTensor& tensor : checkpoint.manifest().tensors) {
    if (tensor.part == TensorPart::kModel) weights.push_back(&tensor);
  }
  return weights;
}

std::string tokenizer_of(const Checkpoint& checkpoint) {
  if (!checkpoint.manifest().file(kCheckpointTokenizer)) return "";
  return checkpoint.read_file(kCheckpointTokenizer);
}

void check_alike(const Checkpoint& one, const Checkpoint& other) {
  const auto refuse = [&](const std::string& what) {
    throw CheckpointError("the checkpoints cannot be averaged: " + what, other.path().string(),
                          "name checkpoints of the same model");
  };
  const auto a = weights_of(one), b = weights_of(other);
  for (const ManifestTensor* tensor : b) {
    if (!one.contains(tensor->name)) {
      refuse(fmt::format("tensor \"{}\" is not in {}", tensor->name, one.path().string()));
    }
    const ManifestTensor& first = one.tensor(tensor->name);
    if (first.shape != tensor->shape || first.part != tensor->part) {
      refuse(fmt::format("tensor \"{}\" is [{}] here and [{}] in {}", tensor->name,
                         fmt::join(tensor->shape, ", "), fmt::join(first.shape, ", "),
                         one.path().string()));
    }
  }
  for (const ManifestTensor* tensor : a) {
    if (!other.contains(tensor->name)) {
      refuse(fmt::format("tensor \"{}\" is not there", tensor->name));
    }
  }
  if (tokenizer_of(one) != tokenizer_of(other)) refuse("its tokenizer is another one");
}

// Adds the tensor's numbers to the sums.
void add(const Checkpoint& checkpoint, const ManifestTensor& tensor, std::vector<double>& sums) {
  const std::vector<std::byte> bytes = checkpoint.read_tensor(tensor.name);
  constexpr size_t kBatch = 1 << 14;
  std::vector<double> numbers(kBatch);
  const size_t size = element_bytes(tensor.type);
  for (size_t at = 0; at < sums.size(); at += kBatch) {
    const size_t count = std::min(kBatch, sums.size() - at);
    to_float64(tensor.type, bytes.data() + at * size, count, numbers.data());
    for (size_t i = 0; i < count; ++i) sums[at + i] += numbers[i];
  }
}

TensorSource mean_of(const std::vector<Checkpoint>& checkpoints, const ManifestTensor& tensor) {
  const bool is_wide =
      std::any_of(checkpoints.begin(), checkpoints.end(), [&](const Checkpoint& checkpoint) {
        return checkpoint.tensor(tensor.name).type == StoredType::kF64;
      });
  uint64_t elements = 1;
  for (const uint64_t size : tensor.shape) elements *= size;
  return {.name = tensor.name,
          .part = TensorPart::kModel,
          .type = is_wide ? StoredType::kF64 : StoredType::kF32,
          .shape = tensor.shape,
          .read = [&checkpoints, name = tensor.name, is_wide, elements](const TakeBytes& take) {
            std::vector<double> means(elements);
            for (const Checkpoint& checkpoint : checkpoints) {
              add(checkpoint, checkpoint.tensor(name), means);
            }
            for (double& mean : means) mean /= static_cast<double>(checkpoints.size());
            if (is_wide) return take(std::as_bytes(std::span(means)));
            const std::vector<float> narrow(means.begin(), means.end());
            take(std::as_bytes(std::span(narrow)));
          }};
}

}  // namespace

std::filesystem::path average_checkpoints(const std::vector<Checkpoint>& checkpoints,
                                          const std::filesystem::path& to) {
  for (const Checkpoint& other : checkpoints) check_alike(checkpoints.front(), other);
  const Checkpoint& latest = *std::max_element(checkpoints.begin(), checkpoints.end(),
                                               [](const Checkpoint& a, const Checkpoint& b) {
                                                 return a.manifest().step < b.manifest().step;
                                               });
  const Manifest& manifest = latest.manifest();
  CheckpointContents contents{.step = manifest.step,
                              .tokens_seen = manifest.tokens_seen,
                              .sampler_position = manifest.sampler_position,
                              .seed = manifest.seed,
                              .config_text = latest.read_file("config.yaml"),
                              .dataset_hash = manifest.dataset_hash};
  if (manifest.file(kCheckpointTokenizer)) {
    contents.tokenizer = latest.path() / kCheckpointTokenizer;
  }
  for (const ManifestTensor* tensor : weights_of(latest)) {
    contents.tensors.push_back(mean_of(checkpoints, *tensor));
  }
  return write_checkpoint(to, contents, kMaxFileBytes);
}

}  // namespace switchyard
