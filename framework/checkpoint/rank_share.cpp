#include "checkpoint/rank_share.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <new>
#include <set>
#include <thread>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr TensorPart kParts[] = {TensorPart::kModel, TensorPart::kOptimizer};
constexpr const char* kStems[] = {"model", "optimizer"};

struct GivenUp {};

// The longest rest after a piece: a disk that is slow by itself needs none.
constexpr std::chrono::milliseconds kLongestRest{1};

}  // namespace

RankShare::RankShare(const std::vector<const Weight*>& weights,
                     const std::vector<OptimizerState>& optimizer, const Groups& groups)
    : world_(*groups.world),
      tensor_group_(*groups.tensor),
      expert_ranks_(groups.expert_ranks()),
      tensors_(tensors_of_job(weights, optimizer, world_)),
      owners_(owners_of(tensors_, groups)) {
  size_t copied = 0;
  for (const TensorPart part : kParts) {
    name_files(part);
    plan_file(part);
    File& file = files_[index_of(part)];
    file.copy_begin = copied;
    copied += file.copy_bytes;
  }
}

// A rank that writes nothing of a part has no file of it, and no number either.
void RankShare::name_files(TensorPart part) {
  std::set<int> writers;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].part == part) writers.insert(owners_[i]);
  }
  int64_t number = 0;
  for (const int rank : writers) {
    file_names_[index_of(part)][rank] =
        shard_name(kStems[index_of(part)], ++number, static_cast<int64_t>(writers.size()));
  }
}

// The tensors of the part that a rank writes, as its file has them.
HeaderBytes RankShare::header_of(TensorPart part, int rank) const {
  std::vector<StoredTensor> entries;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const GlobalTensor& tensor = tensors_[i];
    if (tensor.part != part || owners_[i] != rank) continue;
    entries.push_back({.name = tensor.name,
                       .type = stored_type(tensor.dtype),
                       .shape = stored_shape(tensor.shape)});
  }
  return make_header(std::move(entries), {}, kStems[index_of(part)]);
}

void RankShare::plan_file(TensorPart part) {
  File& file = files_[index_of(part)];
  std::map<std::string_view, const GlobalTensor*> by_name;
  for (const GlobalTensor& tensor : tensors_) {
    if (tensor.part == part) by_name[tensor.name] = &tensor;
  }
  for (int slice = 0; slice < tensor_group_.size(); ++slice) {
    HeaderBytes made = header_of(part, world_.rank() - tensor_group_.rank() + slice);
    const bool mine = slice == tensor_group_.rank();
    file.sliced.emplace_back();
    for (const StoredTensor& entry : made.header.tensors) {
      const GlobalTensor* tensor = by_name.at(entry.name);
      if (tensor->sliced) file.sliced.back().push_back(tensor);
      if (!mine) continue;
      SWITCHYARD_CHECK(tensor->held, tensor->name, " is written by a rank that does not hold it");
      file.tensors.push_back(tensor);
      file.copy_bytes += entry.size_bytes();
    }
    if (mine) file.header = std::move(made);
  }
  const auto& names = file_names_[index_of(part)];
  if (const auto mine = names.find(world_.rank()); mine != names.end()) file.name = mine->second;
}

SafetensorsIndex RankShare::index() const {
  SafetensorsIndex index;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const GlobalTensor& tensor = tensors_[i];
    if (tensor.part != TensorPart::kModel) continue;
    index.file_of[tensor.name] = file_names_[index_of(TensorPart::kModel)].at(owners_[i]);
    index.total_bytes += static_cast<uint64_t>(tensor.shape.elements()) * size_of(tensor.dtype);
  }
  return index;
}

CheckpointLayout RankShare::layout() const {
  const bool sharded = std::ranges::any_of(
      tensors_, [](const GlobalTensor& tensor) { return !tensor.keepers.empty(); });
  return {.ranks = world_.size(), .expert_group_size = expert_ranks_, .sharded_optimizer = sharded};
}

void RankShare::with_slices(const File& file, const std::function<void(SliceGather&)>& action) {
  SliceGather slices(tensor_group_, file.sliced);
  std::exception_ptr error;
  try {
    action(slices);
  } catch (...) {  // the other ranks of the place wait for this one's slices
    error = std::current_exception();
  }
  slices.finish();
  if (error) std::rethrow_exception(error);
}

void RankShare::read(const GlobalTensor& tensor, SliceGather& slices, const TakeBytes& take) {
  if (tensor.sliced) return take(slices.next());
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(tensor.value.raw()),
                                         tensor.value.size_bytes());
  Memory& memory = tensor.weight->memory();
  if (memory.host_accessible()) return take(bytes);
  staging_.resize(kChunkBytes);
  hand_out(bytes, [&](std::span<const std::byte> piece) {
    memory.copy_out(staging_.data(), piece.data(), piece.size());
    take({staging_.data(), piece.size()});
  });
}

void RankShare::write(const UnfinishedCheckpoint& checkpoint, TensorPart part, Manifest& manifest) {
  const File& file = files_[index_of(part)];
  with_slices(file, [&](SliceGather& slices) {
    if (file.name.empty()) return;
    auto next = file.tensors.begin();
    checkpoint.write_tensors(
        file.name, part, file.header,
        [&](const StoredTensor&, const TakeBytes& take) { read(**next++, slices, take); },
        manifest);
  });
}

void RankShare::reserve() {
  if (copy_) return;
  const size_t size = files_[0].copy_bytes + files_[1].copy_bytes;
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t rounded = (size / kHugePage + 1) * kHugePage;
  copy_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded)));
  if (!copy_) throw std::bad_alloc();
  // A copy into huge pages looks up a five-hundredth of the addresses; without them it still works.
  static_cast<void>(::madvise(copy_.get(), rounded, MADV_HUGEPAGE));
  std::memset(copy_.get(), 0, size);  // so that every page is there
}

void RankShare::copy(TensorPart part) {
  SWITCHYARD_CHECK(copy_, "a copy without memory");
  const File& file = files_[index_of(part)];
  with_slices(file, [&](SliceGather& slices) {
    std::byte* to = copy_.get() + file.copy_begin;
    for (const GlobalTensor* tensor : file.tensors) {
      if (tensor->sliced) {
        const std::span<const std::byte> whole = slices.next();
        std::memcpy(to, whole.data(), whole.size());
        to += whole.size();
      } else {
        const size_t size = tensor->value.size_bytes();
        if (size > 0) tensor->weight->memory().copy_out(to, tensor->value.raw(), size);
        to += size;
      }
    }
  });
}

bool RankShare::write_copy(const UnfinishedCheckpoint& checkpoint, TensorPart part,
                           Manifest& manifest, const std::atomic<WriterPace>& pace) const {
  const File& file = files_[index_of(part)];
  if (file.name.empty()) return true;
  const std::byte* at = copy_.get() + file.copy_begin;
  const auto read = [&](const StoredTensor& tensor, const TakeBytes& take) {
    hand_out({at, tensor.size_bytes()}, [&](std::span<const std::byte> piece) {
      if (pace == WriterPace::kGiveUp) throw GivenUp();
      const auto began = std::chrono::steady_clock::now();
      take(piece);
      if (pace != WriterPace::kGiveWay) return;
      const std::chrono::nanoseconds worked = std::chrono::steady_clock::now() - began;
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(worked, kLongestRest));
    });
    at += tensor.size_bytes();
  };
  try {
    checkpoint.write_tensors(file.name, part, file.header, read, manifest);
  } catch (const GivenUp&) {
    return false;
  }
  return true;
}

}  // namespace switchyard
