#include "collectives/mpi/mpi_collectives.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <exception>

#include "base/check.h"
#include "base/host_name.h"
#include "base/log.h"
#include "collectives/arguments.h"
#include "collectives/groups.h"
#include "collectives/mpi/mpi_check.h"
#include "collectives/reduce.h"

namespace switchyard {
namespace {

constexpr int kTag = 1;  // one suffices: messages between two ranks of a group keep their order

std::byte* bytes_of(TensorView x) { return static_cast<std::byte*>(x.raw()); }

void copy_bytes(std::byte* to, const std::byte* from, int64_t count) {
  if (count > 0 && to != from) std::memcpy(to, from, static_cast<size_t>(count));
}

}  // namespace

MpiCollectives::MpiCollectives(MPI_Comm communicator, const MpiLimits& limits, Job& job)
    : communicator_(communicator), limits_(limits), job_(job), thread_(std::this_thread::get_id()) {
  SWITCHYARD_CHECK(limits.message_bytes >= 1 && limits.message_bytes <= INT_MAX, "pieces of ",
                   limits.message_bytes, " bytes");
  SWITCHYARD_MPI(MPI_Comm_rank(communicator_, &rank_));
  SWITCHYARD_MPI(MPI_Comm_size(communicator_, &size_));
  const auto ranks = static_cast<size_t>(size_);
  outgoing_.resize(ranks);
  incoming_.resize(ranks);
  part_sizes_.resize(ranks);
  counts_.resize(ranks);
  offsets_.resize(ranks);
  sources_.resize(ranks);
}

MpiCollectives::~MpiCollectives() {
  // On the way out of an error the other ranks don't come here, and the job ends soon anyhow.
  if (std::uncaught_exceptions() > 0) return;
  if (MPI_Comm_free(&communicator_) != MPI_SUCCESS) job_.abort(ExitCode::kRankLost);
}

// What every operation does first.
void MpiCollectives::start(Stream& stream) {
  SWITCHYARD_CHECK(std::this_thread::get_id() == thread_,
                   "a collective outside the thread that owns MPI");
  stream.synchronize();
}

std::byte* MpiCollectives::scratch(int64_t size_bytes) {
  if (scratch_.view().absent() || scratch_.elements() < size_bytes) {
    scratch_ = Tensor(DType::kUint8, {size_bytes});
  }
  return bytes_of(scratch_);
}

// Sends outgoing_ and receives incoming_, except this rank's own entries. A pair knows the size of
// its message on both sides, so its pieces need no agreement with anybody else.
void MpiCollectives::exchange() {
  requests_.clear();
  const auto in_pieces = [&](const Bytes& message, auto&& start_piece) {
    for (int64_t at = 0; at < message.count; at += limits_.message_bytes) {
      const auto count = static_cast<int>(std::min(limits_.message_bytes, message.count - at));
      requests_.push_back(MPI_REQUEST_NULL);
      start_piece(message.data + at, count, &requests_.back());
    }
  };
  // Every rank begins with its neighbour, so that no rank is everybody's first partner.
  for (int distance = 1; distance < size_; ++distance) {
    const int from = (rank_ - distance + size_) % size_;
    in_pieces(incoming_[static_cast<size_t>(from)], [&](void* to, int count, MPI_Request* request) {
      SWITCHYARD_MPI(MPI_Irecv(to, count, MPI_BYTE, from, kTag, communicator_, request));
    });
  }
  for (int distance = 1; distance < size_; ++distance) {
    const int to = (rank_ + distance) % size_;
    in_pieces(outgoing_[static_cast<size_t>(to)], [&](void* from, int count, MPI_Request* request) {
      SWITCHYARD_MPI(MPI_Isend(from, count, MPI_BYTE, to, kTag, communicator_, request));
    });
  }
  statuses_.resize(requests_.size());
  const int code =
      MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), statuses_.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (const MPI_Status& status : statuses_) {
      if (status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING) {
        internal::fail_mpi("MPI_Waitall(messages of an exchange)", status.MPI_ERROR);
      }
    }
  }
  SWITCHYARD_MPI(code);
}

void MpiCollectives::reduce_small(TensorView x, ReduceOp op) {
  const auto size_bytes = static_cast<int64_t>(x.size_bytes());
  std::byte* all = scratch(size_bytes * size_);
  SWITCHYARD_MPI(MPI_Allgather(x.raw(), static_cast<int>(size_bytes), MPI_BYTE, all,
                               static_cast<int>(size_bytes), MPI_BYTE, communicator_));
  for (int r = 0; r < size_; ++r) sources_[static_cast<size_t>(r)] = all + r * size_bytes;
  std::byte* const target = bytes_of(x);
  reduce_in_rank_order(x.dtype(), op, sources_, {&target, 1}, x.elements());
}

// Reduces the rank's consecutive elements of x into `part`, which may be where they stand in x.
void MpiCollectives::reduce_parts(TensorView x, ReduceOp op, std::span<const int64_t> part_elements,
                                  std::byte* part) {
  const auto element_bytes = static_cast<int64_t>(size_of(x.dtype()));
  const int64_t step = std::max<int64_t>(1, limits_.reduction_bytes / element_bytes);
  const int64_t largest = *std::max_element(part_elements.begin(), part_elements.end());
  const int64_t slot_bytes = std::min(step, largest) * element_bytes;
  std::byte* received = scratch(slot_bytes * size_);
  const int64_t own_elements = part_elements[static_cast<size_t>(rank_)];
  for (int64_t done = 0; done < largest; done += step) {
    const int64_t own_count = std::clamp<int64_t>(own_elements - done, 0, step);
    std::byte* piece = bytes_of(x);
    for (int r = 0; r < size_; ++r) {
      const auto at = static_cast<size_t>(r);
      const int64_t count = std::clamp<int64_t>(part_elements[at] - done, 0, step);
      outgoing_[at] = {piece + done * element_bytes, count * element_bytes};
      incoming_[at] = {received + r * slot_bytes, own_count * element_bytes};
      sources_[at] = r == rank_ ? outgoing_[at].data : incoming_[at].data;
      piece += part_elements[at] * element_bytes;
    }
    exchange();
    std::byte* const target = part + done * element_bytes;
    if (own_count > 0) reduce_in_rank_order(x.dtype(), op, sources_, {&target, 1}, own_count);
  }
}

// Fills the parts of the other ranks; the own one stands there already.
void MpiCollectives::gather(TensorView gathered, std::span<const int64_t> part_bytes) {
  if (static_cast<int64_t>(gathered.size_bytes()) <= limits_.message_bytes) {
    int offset = 0;
    for (size_t r = 0; r < part_bytes.size(); ++r) {
      counts_[r] = static_cast<int>(part_bytes[r]);
      offsets_[r] = offset;
      offset += counts_[r];
    }
    SWITCHYARD_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, gathered.raw(),
                                  counts_.data(), offsets_.data(), MPI_BYTE, communicator_));
    return;
  }
  const Bytes own{bytes_of(gathered) + rows_before(part_bytes, rank_),
                  part_bytes[static_cast<size_t>(rank_)]};
  std::byte* to = bytes_of(gathered);
  for (size_t r = 0; r < part_bytes.size(); ++r) {
    outgoing_[r] = own;
    incoming_[r] = {to, part_bytes[r]};
    to += part_bytes[r];
  }
  exchange();
}

std::unique_ptr<Work> MpiCollectives::all_reduce(Stream& stream, TensorView x, ReduceOp op) {
  check_all_reduce(x);
  start(stream);
  if (size_ == 1 || x.elements() == 0) return FinishedWork::make();
  if (static_cast<int64_t>(x.size_bytes()) <= limits_.small_bytes) {
    reduce_small(x, op);
    return FinishedWork::make();
  }
  const auto element_bytes = static_cast<int64_t>(size_of(x.dtype()));
  for (int r = 0; r < size_; ++r) {
    part_sizes_[static_cast<size_t>(r)] = share_of(x.elements(), size_, r).size();
  }
  reduce_parts(x, op, part_sizes_, bytes_of(x) + rows_before(part_sizes_, rank_) * element_bytes);
  for (int64_t& size : part_sizes_) size *= element_bytes;
  gather(x, part_sizes_);
  return FinishedWork::make();
}

std::unique_ptr<Work> MpiCollectives::reduce_scatter(Stream& stream, TensorView x,
                                                     std::span<const int64_t> part_rows,
                                                     TensorView part) {
  check_reduce_scatter(x, part_rows, part, rank_, size_);
  start(stream);
  const int64_t row_elements = row_bytes(x) / static_cast<int64_t>(size_of(x.dtype()));
  std::transform(part_rows.begin(), part_rows.end(), part_sizes_.begin(),
                 [&](int64_t rows) { return rows * row_elements; });
  reduce_parts(x, ReduceOp::kSum, part_sizes_, bytes_of(part));
  return FinishedWork::make();
}

std::unique_ptr<Work> MpiCollectives::all_gather(Stream& stream, TensorView rows,
                                                 std::span<const int64_t> part_rows,
                                                 TensorView gathered) {
  check_all_gather(rows, part_rows, gathered, rank_, size_);
  start(stream);
  const int64_t row = row_bytes(rows);
  std::transform(part_rows.begin(), part_rows.end(), part_sizes_.begin(),
                 [&](int64_t count) { return count * row; });
  copy_bytes(bytes_of(gathered) + rows_before(part_sizes_, rank_), bytes_of(rows),
             part_sizes_[static_cast<size_t>(rank_)]);
  gather(gathered, part_sizes_);
  return FinishedWork::make();
}

std::unique_ptr<Work> MpiCollectives::all_to_all(Stream& stream, TensorView send,
                                                 std::span<const int64_t> send_rows,
                                                 TensorView recv,
                                                 std::span<const int64_t> recv_rows) {
  check_all_to_all(send, send_rows, recv, recv_rows, rank_, size_);
  start(stream);
  const int64_t row = row_bytes(send);
  std::byte *from = bytes_of(send), *to = bytes_of(recv);
  for (size_t r = 0; r < outgoing_.size(); ++r) {
    outgoing_[r] = {from, send_rows[r] * row};
    incoming_[r] = {to, recv_rows[r] * row};
    from += outgoing_[r].count;
    to += incoming_[r].count;
  }
  const auto own = static_cast<size_t>(rank_);
  copy_bytes(incoming_[own].data, outgoing_[own].data, incoming_[own].count);
  exchange();
  return FinishedWork::make();
}

std::unique_ptr<Work> MpiCollectives::broadcast(Stream& stream, TensorView x, int root) {
  check_root(root, size_);
  start(stream);
  const auto size_bytes = static_cast<int64_t>(x.size_bytes());
  for (int64_t at = 0; at < size_bytes; at += limits_.message_bytes) {
    const auto count = static_cast<int>(std::min(limits_.message_bytes, size_bytes - at));
    SWITCHYARD_MPI(MPI_Bcast(bytes_of(x) + at, count, MPI_BYTE, root, communicator_));
  }
  return FinishedWork::make();
}

void MpiCollectives::barrier() { SWITCHYARD_MPI(MPI_Barrier(communicator_)); }

std::unique_ptr<Collectives> MpiCollectives::split(int color) {
  check_color(color);
  MPI_Comm part = MPI_COMM_NULL;
  SWITCHYARD_MPI(MPI_Comm_split(communicator_, color, rank_, &part));
  return std::make_unique<MpiCollectives>(part, limits_, job_);
}

void MpiCollectives::abort(const std::string& reason) noexcept {
  log_error(fmt::format("rank {} failed: {}\n  at host {}", current_rank(), reason, host_name()),
            job_.claim_report());
  job_.abort(ExitCode::kRankLost);
}

}  // namespace switchyard
