// NCCL's entry points over MPI, for the emulation: what collectives/nccl/ calls, with NVIDIA's own
// prototypes. An operation runs when its turn in the stream comes. Where NCCL would hang or mix up
// memory this reports and ends the job: ranks that call different operations, messages that don't
// fit their receives, ranks that never come (after 30 s).
// NCCL_EMULATION_FAILS=RANK:N lets the N-th operation of a rank fail as if another rank were gone.
#include <mpi.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "cuda_runtime.h"

struct ncclComm {
  MPI_Comm mpi = MPI_COMM_NULL;
  int rank = 0, size = 1;
  std::atomic<ncclResult_t> state{ncclSuccess};
  std::atomic<bool> aborted{false};
};

namespace {

enum class Kind : int32_t {
  kAllReduce,
  kReduceScatter,
  kReduce,
  kAllGather,
  kBroadcast,
  kMessages
};

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"all-reduce", "reduce-scatter", "reduce",
                                    "all-gather", "broadcast",      "message"};
  return kNames[static_cast<size_t>(kind)];
}

const char* name_of(ncclDataType_t type) {
  constexpr const char* kNames[] = {"int8",   "uint8",   "int32",   "uint32",  "int64",
                                    "uint64", "float16", "float32", "float64", "bfloat16"};
  return type <= ncclBfloat16 ? kNames[type] : "?";
}

size_t bytes_of(ncclDataType_t type) {
  constexpr size_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return type <= ncclBfloat16 ? kBytes[type] : 0;
}

// What all ranks of a communicator must agree on.
struct Call {
  Kind kind = Kind::kAllReduce;
  int32_t type = 0, operation = 0, root = 0;
  int64_t count = 0;

  bool operator==(const Call&) const = default;
};

std::string text_of(const Call& call) {
  std::string text = std::string(name_of(call.kind)) + " of " + std::to_string(call.count) + " " +
                     name_of(static_cast<ncclDataType_t>(call.type));
  if (call.kind == Kind::kBroadcast || call.kind == Kind::kReduce) {
    text += " with root " + std::to_string(call.root);
  }
  return text + (call.operation == ncclMax ? ", maximum" : "");
}

[[noreturn]] void end_job(const std::string& report) {
  std::fprintf(stderr, "NCCL over MPI: %s\n", report.c_str());
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);
}

void expect_success(int code, const char* what) {
  if (code != MPI_SUCCESS) end_job(std::string(what) + " fails with " + std::to_string(code));
}

using Bytes = std::vector<std::byte>;

// The buffers of operations that were aborted: MPI may still write there.
std::deque<Bytes>& abandoned() {
  static std::deque<Bytes> buffers;
  return buffers;
}

// Waits for all requests. Returns whether they ended; not when the communicator was aborted.
bool finish(ncclComm& communicator, std::vector<MPI_Request>& requests, const std::string& what) {
  constexpr std::chrono::seconds kPatience{30};
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    int done = 0;
    std::vector<MPI_Status> statuses(requests.size());
    const int code =
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, statuses.data());
    if (code != MPI_SUCCESS) {
      end_job("rank " + std::to_string(communicator.rank) + ": a message doesn't fit in " + what);
    }
    if (done != 0) return true;
    if (communicator.aborted) return false;
    if (std::chrono::steady_clock::now() - begin > kPatience) {
      end_job("no progress: rank " + std::to_string(communicator.rank) + " of " +
              std::to_string(communicator.size) + " waits in " + what);
    }
    std::this_thread::yield();
  }
}

// Bytes of every rank, in rank order; empty when the communicator was aborted.
Bytes gather(ncclComm& communicator, const void* own, size_t size_bytes, const std::string& what) {
  Bytes all(size_bytes * static_cast<size_t>(communicator.size));
  Bytes mine(size_bytes);
  if (size_bytes > 0) std::memcpy(mine.data(), own, size_bytes);
  std::vector<MPI_Request> requests(1);
  expect_success(
      MPI_Iallgather(mine.data(), static_cast<int>(size_bytes), MPI_BYTE, all.data(),
                     static_cast<int>(size_bytes), MPI_BYTE, communicator.mpi, requests.data()),
      "MPI_Iallgather");
  if (finish(communicator, requests, what)) return all;
  abandoned().push_back(std::move(all));
  abandoned().push_back(std::move(mine));
  return {};
}

// Whether all ranks make the same call; ends the job when they differ.
bool agree(ncclComm& communicator, const Call& call) {
  const Bytes all = gather(communicator, &call, sizeof(Call), text_of(call));
  for (size_t r = 0; r * sizeof(Call) < all.size(); ++r) {
    Call other;
    std::memcpy(&other, all.data() + r * sizeof(Call), sizeof(Call));
    if (other == call) continue;
    // All see it; one reports.
    if (communicator.rank != 0) std::this_thread::sleep_for(std::chrono::seconds(5));
    end_job("ranks of a communicator differ: rank " + std::to_string(communicator.rank) +
            " calls " + text_of(call) + ", rank " + std::to_string(r) + " " + text_of(other));
  }
  return !all.empty();
}

// Like NCCL's own, a maximum forgets a NaN.
template <typename T>
void reduce_into(const Bytes& all, size_t ranks, size_t count, size_t first, bool is_max, T* to) {
  const size_t stride = all.size() / sizeof(T) / ranks;
  const T* from = reinterpret_cast<const T*>(all.data()) + first;
  for (size_t i = 0; i < count; ++i) {
    T value = from[i];
    for (size_t r = 1; r < ranks; ++r) {
      const T other = from[r * stride + i];
      if constexpr (std::is_floating_point_v<T>) {
        value = is_max ? std::fmax(value, other) : value + other;
      } else {
        using Bits = std::make_unsigned_t<T>;
        value = is_max ? (value < other ? other : value)
                       : static_cast<T>(static_cast<Bits>(value) + static_cast<Bits>(other));
      }
    }
    to[i] = value;
  }
}

void reduce(ncclComm& communicator, const Call& call, const void* from, size_t elements,
            size_t first, size_t count, void* to) {
  const auto type = static_cast<ncclDataType_t>(call.type);
  const Bytes all = gather(communicator, from, elements * bytes_of(type), text_of(call));
  if (all.empty() || to == nullptr) return;
  const auto ranks = static_cast<size_t>(communicator.size);
  const bool is_max = call.operation == ncclMax;
  switch (type) {
    case ncclInt32:
      return reduce_into(all, ranks, count, first, is_max, static_cast<int32_t*>(to));
    case ncclInt64:
      return reduce_into(all, ranks, count, first, is_max, static_cast<int64_t*>(to));
    case ncclFloat32:
      return reduce_into(all, ranks, count, first, is_max, static_cast<float*>(to));
    case ncclFloat64:
      return reduce_into(all, ranks, count, first, is_max, static_cast<double*>(to));
    default:
      end_job(std::string("a reduction of ") + name_of(type));
  }
}

void run_collective(ncclComm& communicator, const Call& call, const void* from, void* to) {
  if (!agree(communicator, call)) return;
  const auto count = static_cast<size_t>(call.count);
  const auto rank = static_cast<size_t>(communicator.rank);
  const size_t size_bytes = count * bytes_of(static_cast<ncclDataType_t>(call.type));
  switch (call.kind) {
    case Kind::kAllReduce:
      return reduce(communicator, call, from, count, 0, count, to);
    case Kind::kReduceScatter:
      return reduce(communicator, call, from, count * static_cast<size_t>(communicator.size),
                    rank * count, count, to);
    case Kind::kReduce:
      return reduce(communicator, call, from, count, 0, count,
                    communicator.rank == call.root ? to : nullptr);
    case Kind::kAllGather: {
      const Bytes all = gather(communicator, from, size_bytes, text_of(call));
      if (!all.empty()) std::memcpy(to, all.data(), all.size());
      return;
    }
    case Kind::kBroadcast: {
      // Only the root's `from` may be read.
      const Bytes nothing(size_bytes);
      const bool is_root = communicator.rank == call.root;
      const Bytes all =
          gather(communicator, is_root ? from : nothing.data(), size_bytes, text_of(call));
      if (!all.empty()) {
        std::memcpy(to, all.data() + static_cast<size_t>(call.root) * size_bytes, size_bytes);
      }
      return;
    }
    case Kind::kMessages:
      break;
  }
}

struct Message {
  Call call;  // root: the other rank
  const void* from = nullptr;
  void* to = nullptr;  // of a receive
};

// All sends and receives of a group at once.
void run_messages(ncclComm& communicator, const std::vector<Message>& messages) {
  constexpr int kTag = 1;
  std::vector<MPI_Request> requests(messages.size());
  std::deque<Bytes> buffers;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const size_t size_bytes = static_cast<size_t>(message.call.count) *
                              bytes_of(static_cast<ncclDataType_t>(message.call.type));
    Bytes& buffer = buffers.emplace_back(sizeof(Call) + size_bytes);
    const int length = static_cast<int>(buffer.size());
    if (message.to != nullptr) {
      expect_success(MPI_Irecv(buffer.data(), length, MPI_BYTE, message.call.root, kTag,
                               communicator.mpi, &requests[i]),
                     "MPI_Irecv");
      continue;
    }
    Call as_received = message.call;
    as_received.root = communicator.rank;
    std::memcpy(buffer.data(), &as_received, sizeof(Call));
    std::memcpy(buffer.data() + sizeof(Call), message.from, size_bytes);
    expect_success(MPI_Issend(buffer.data(), length, MPI_BYTE, message.call.root, kTag,
                              communicator.mpi, &requests[i]),
                   "MPI_Issend");
  }
  if (!finish(communicator, requests, std::to_string(messages.size()) + " sends and receives")) {
    for (Bytes& buffer : buffers) abandoned().push_back(std::move(buffer));
    return;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.to == nullptr) continue;
    Call sent;
    std::memcpy(&sent, buffers[i].data(), sizeof(Call));
    if (!(sent == message.call)) {
      end_job("rank " + std::to_string(communicator.rank) + " takes a " + text_of(message.call) +
              ", rank " + std::to_string(message.call.root) + " sends a " + text_of(sent));
    }
    std::memcpy(message.to, buffers[i].data() + sizeof(Call), buffers[i].size() - sizeof(Call));
  }
}

// Whether this rank's next operation is the one to fail.
bool fails_now() {
  static const char* const setting = std::getenv("NCCL_EMULATION_FAILS");
  static std::atomic<int64_t> operations{0};
  if (setting == nullptr) return false;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const std::string text = setting;
  const size_t colon = text.find(':');
  return std::stoi(text.substr(0, colon)) == rank &&
         ++operations == std::stoll(text.substr(colon + 1));
}

// As a kernel of NCCL that lost its partner: it spins until its communicator is aborted.
void lose_partner(ncclComm& communicator) {
  communicator.state = ncclRemoteError;
  while (!communicator.aborted) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

struct Pending {
  ncclComm_t communicator;
  cudaStream_t stream;
  Message call;
};
thread_local int group_depth = 0;
thread_local std::vector<Pending> pending;

// The group's operations on one communicator and stream: messages all at once, the others in order.
void enqueue(ncclComm_t communicator, cudaStream_t stream, std::vector<Message> calls) {
  cuda_emulation::enqueue(stream, [communicator, calls = std::move(calls)] {
    if (communicator->aborted) return;
    if (fails_now()) return lose_partner(*communicator);
    std::vector<Message> messages;
    for (const Message& call : calls) {
      if (call.call.kind == Kind::kMessages) {
        messages.push_back(call);
      } else {
        run_collective(*communicator, call.call, call.from, call.to);
      }
    }
    if (!messages.empty()) run_messages(*communicator, messages);
  });
}

ncclResult_t close_group() {
  while (!pending.empty()) {
    const ncclComm_t communicator = pending.front().communicator;
    const cudaStream_t stream = pending.front().stream;
    std::vector<Message> calls;
    std::vector<Pending> others;
    for (const Pending& one : pending) {
      if (one.communicator == communicator && one.stream == stream) {
        calls.push_back(one.call);
      } else {
        others.push_back(one);
      }
    }
    pending = std::move(others);
    enqueue(communicator, stream, std::move(calls));
  }
  return ncclSuccess;
}

// As NCCL does, refuses host memory at the call.
ncclResult_t start(ncclComm_t communicator, cudaStream_t stream, const Message& call) {
  if (communicator == nullptr || bytes_of(static_cast<ncclDataType_t>(call.call.type)) == 0) {
    return ncclInvalidArgument;
  }
  if (!cuda_emulation::is_device_pointer(call.from) ||
      !cuda_emulation::is_device_pointer(call.to)) {
    return ncclInvalidUsage;
  }
  pending.push_back({communicator, stream, call});
  return group_depth > 0 ? ncclSuccess : close_group();
}

ncclResult_t make(MPI_Comm mpi, ncclComm_t* made) {
  auto* communicator = new ncclComm;
  communicator->mpi = mpi;
  expect_success(MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  expect_success(MPI_Comm_rank(mpi, &communicator->rank), "MPI_Comm_rank");
  expect_success(MPI_Comm_size(mpi, &communicator->size), "MPI_Comm_size");
  *made = communicator;
  return ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id, 0, sizeof(*id));
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  std::memcpy(id, &now, sizeof(now));
  return ncclSuccess;
}

// All ranks of the job call it.
ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank) {
  int size = 0;
  MPI_Comm copy = MPI_COMM_NULL;
  expect_success(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  if (size != ranks) return ncclInvalidArgument;
  expect_success(MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &copy), "MPI_Comm_split");
  make(copy, communicator);
  if ((*communicator)->rank != rank) end_job("two ranks with one number");
  const Bytes ids = gather(**communicator, &id, sizeof(id), "the identification");
  for (int r = 0; r < ranks; ++r) {
    if (std::memcmp(ids.data() + static_cast<size_t>(r) * sizeof(id), &id, sizeof(id)) != 0) {
      end_job("ranks with different identifications");
    }
  }
  return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t communicator, int color, int key, ncclComm_t* part,
                           ncclConfig_t*) {
  MPI_Comm mpi = MPI_COMM_NULL;
  expect_success(MPI_Comm_split(communicator->mpi, color, key, &mpi), "MPI_Comm_split");
  return make(mpi, part);
}

// After what is under way, as with NCCL.
ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  if (cudaDeviceSynchronize() != cudaSuccess) return ncclUnhandledCudaError;
  expect_success(MPI_Comm_free(&communicator->mpi), "MPI_Comm_free");
  delete communicator;
  return ncclSuccess;
}

// The communicator is left: operations in streams may still look at it.
ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  communicator->aborted = true;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* state) {
  *state = communicator->state;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  return --group_depth > 0 ? ncclSuccess : close_group();
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream) {
  const Call call{Kind::kAllReduce, type, operation, 0, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, to});
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t communicator,
                               cudaStream_t stream) {
  const Call call{Kind::kReduceScatter, type, operation, 0, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, to});
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t communicator,
                        cudaStream_t stream) {
  const Call call{Kind::kReduce, type, operation, root, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, to});
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  const Call call{Kind::kAllGather, type, 0, 0, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, to});
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  const Call call{Kind::kBroadcast, type, 0, root, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, to});
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  const Call call{Kind::kMessages, type, 0, peer, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, from, nullptr});
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  const Call call{Kind::kMessages, type, 0, peer, static_cast<int64_t>(count)};
  return start(communicator, stream, {call, nullptr, to});
}

}  // extern "C"
