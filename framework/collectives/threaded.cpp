#include "collectives/threaded.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/check.h"
#include "collectives/arguments.h"
#include "collectives/groups.h"
#include "collectives/reduce.h"

namespace switchyard {
namespace {

// What all groups of a run share. One lock for all: ranks are few, and a failure must wake every
// waiting thread whatever group it waits in.
struct SharedRun {
  std::mutex mutex;
  std::condition_variable changed;
  bool failed = false;
  int failed_rank = 0;  // of the world
  std::string reason;
  std::exception_ptr error;  // of failed_rank; null until it has left its body
  std::vector<bool> ended;   // by rank of the world: its body has returned or thrown

  void fail_locked(int rank, const std::string& why) {
    if (failed) return;
    failed = true;
    failed_rank = rank;
    reason = why;
    changed.notify_all();
  }
};

// What a rank brings to an operation. Others read it until all have left the operation.
struct Call {
  std::string_view operation = "";
  DType dtype = DType::kFloat32;
  int64_t unit = 0;  // elements or bytes of a row, equal on all ranks
  int choice = 0;    // ReduceOp or root, equal on all ranks
  std::span<const int64_t> rows = {};
  std::span<const int64_t> recv_rows = {};  // all_to_all only
  std::byte* data = nullptr;
  int color = 0;
};

struct ThreadedGroup {
  ThreadedGroup(std::shared_ptr<SharedRun> shared_run, std::vector<int> ranks)
      : run(std::move(shared_run)),
        world_ranks(std::move(ranks)),
        calls(world_ranks.size()),
        children(world_ranks.size()) {}

  const std::shared_ptr<SharedRun> run;
  const std::vector<int> world_ranks;
  std::vector<Call> calls;                               // by rank
  std::vector<std::shared_ptr<ThreadedGroup>> children;  // by rank; made by split
  int arrived = 0;
  uint64_t meetings = 0;
};

bool same_counts(std::span<const int64_t> a, std::span<const int64_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// What two ranks see differently, or nothing. The same text on every rank, so that all fail alike.
std::string disagreement(const std::vector<Call>& calls) {
  const Call& first = calls[0];
  for (size_t r = 1; r < calls.size(); ++r) {
    const Call& call = calls[r];
    const auto ranks = [r] { return "rank " + std::to_string(r) + " of the group and rank 0 "; };
    if (call.operation != first.operation) {
      return ranks() + "call different operations: " + std::string(call.operation) + ", " +
             std::string(first.operation);
    }
    const bool alike = call.dtype == first.dtype && call.unit == first.unit &&
                       call.choice == first.choice &&
                       (first.operation == "all_to_all" || same_counts(call.rows, first.rows));
    if (!alike) {
      return ranks() + "differ in dtype, shape, counts, root or reduction of " +
             std::string(first.operation);
    }
  }
  if (first.operation != "all_to_all") return "";
  for (size_t from = 0; from < calls.size(); ++from) {
    for (size_t to = 0; to < calls.size(); ++to) {
      const int64_t sent = calls[from].rows[to], expected = calls[to].recv_rows[from];
      if (sent != expected) {
        return "rank " + std::to_string(from) + " of the group sends " + std::to_string(sent) +
               " rows to rank " + std::to_string(to) + ", which expects " +
               std::to_string(expected);
      }
    }
  }
  return "";
}

class ThreadedCollectives : public Collectives {
 public:
  ThreadedCollectives(std::shared_ptr<ThreadedGroup> group, int rank)
      : group_(std::move(group)), rank_(rank) {}

  std::string_view name() const override { return "threaded"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->world_ranks.size()); }

  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override;
  std::unique_ptr<Work> reduce_scatter(Stream& stream, TensorView x,
                                       std::span<const int64_t> part_rows,
                                       TensorView part) override;
  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override;
  std::unique_ptr<Work> all_to_all(Stream& stream, TensorView send,
                                   std::span<const int64_t> send_rows, TensorView recv,
                                   std::span<const int64_t> recv_rows) override;
  std::unique_ptr<Work> broadcast(Stream& stream, TensorView x, int root) override;
  void barrier() override;
  std::unique_ptr<Collectives> split(int color) override;
  void abort(const std::string& reason) noexcept override;

 private:
  void enter(const Call& call);
  void leave() { meet(); }
  void meet();
  bool a_member_has_ended() const;
  const Call& call_of(int rank) const { return group_->calls[static_cast<size_t>(rank)]; }
  int world_rank() const { return group_->world_ranks[static_cast<size_t>(rank_)]; }

  std::shared_ptr<ThreadedGroup> group_;
  int rank_;
};

bool ThreadedCollectives::a_member_has_ended() const {
  for (int rank : group_->world_ranks) {
    if (group_->run->ended[static_cast<size_t>(rank)]) return true;
  }
  return false;
}

// Waits until all ranks of the group have come with their calls, then checks that they agree.
// Between enter and leave nothing may wait or throw: the other ranks are at this one's buffers, and
// a rank leaves only when all are done, even after a failure.
void ThreadedCollectives::enter(const Call& call) {
  SharedRun& run = *group_->run;
  {
    std::unique_lock lock(run.mutex);
    if (!run.failed) {
      group_->calls[static_cast<size_t>(rank_)] = call;
      const uint64_t meeting = group_->meetings;
      if (++group_->arrived == size()) {
        group_->arrived = 0;
        ++group_->meetings;
        run.changed.notify_all();
      }
      run.changed.wait(
          lock, [&] { return group_->meetings != meeting || run.failed || a_member_has_ended(); });
      if (group_->meetings == meeting && !run.failed) {
        run.fail_locked(world_rank(),
                        "waits in " + std::string(call.operation) + " for a rank that has ended");
      }
      if (group_->meetings != meeting) lock.unlock();
    }
    if (lock.owns_lock()) {
      throw RankError("rank " + std::to_string(run.failed_rank) + " failed: " + run.reason);
    }
  }
  const std::string difference = disagreement(group_->calls);
  if (!difference.empty()) {
    leave();
    SWITCHYARD_CHECK(difference.empty(), difference);
  }
}

void ThreadedCollectives::meet() {
  SharedRun& run = *group_->run;
  std::unique_lock lock(run.mutex);
  const uint64_t meeting = group_->meetings;
  if (++group_->arrived == size()) {
    group_->arrived = 0;
    ++group_->meetings;
    run.changed.notify_all();
  }
  run.changed.wait(lock, [&] { return group_->meetings != meeting; });
}

std::byte* bytes_of(TensorView x) { return static_cast<std::byte*>(x.raw()); }

void copy_bytes(std::byte* to, const std::byte* from, int64_t count) {
  if (count > 0 && to != from) std::memcpy(to, from, static_cast<size_t>(count));
}

std::unique_ptr<Work> ThreadedCollectives::all_reduce(Stream& stream, TensorView x, ReduceOp op) {
  check_all_reduce(x);
  stream.synchronize();
  // Room is taken before entering, where nothing may throw.
  ReusedVector<const std::byte*> sources(static_cast<size_t>(size()));
  ReusedVector<std::byte*> targets(static_cast<size_t>(size()));
  enter({.operation = "all_reduce",
         .dtype = x.dtype(),
         .unit = x.elements(),
         .choice = static_cast<int>(op),
         .data = bytes_of(x)});
  // A rank alone touches its piece, of all ranks' tensors: no second copy is needed.
  const Share piece = share_of(x.elements(), size(), rank_);
  const int64_t offset = piece.begin * static_cast<int64_t>(size_of(x.dtype()));
  for (int r = 0; r < size() && piece.size() > 0; ++r) {
    sources[static_cast<size_t>(r)] = targets[static_cast<size_t>(r)] = call_of(r).data + offset;
  }
  reduce_in_rank_order(x.dtype(), op, sources, targets, piece.size());
  leave();
  return FinishedWork::make();
}

std::unique_ptr<Work> ThreadedCollectives::reduce_scatter(Stream& stream, TensorView x,
                                                          std::span<const int64_t> part_rows,
                                                          TensorView part) {
  check_reduce_scatter(x, part_rows, part, rank_, size());
  stream.synchronize();
  ReusedVector<const std::byte*> sources(static_cast<size_t>(size()));
  enter({.operation = "reduce_scatter",
         .dtype = x.dtype(),
         .unit = row_bytes(x),
         .rows = part_rows,
         .data = bytes_of(x)});
  const int64_t offset = rows_before(part_rows, rank_) * row_bytes(x);
  for (int r = 0; r < size() && part.elements() > 0; ++r) {
    sources[static_cast<size_t>(r)] = call_of(r).data + offset;
  }
  std::byte* const target = bytes_of(part);
  reduce_in_rank_order(x.dtype(), ReduceOp::kSum, sources, {&target, 1}, part.elements());
  leave();
  return FinishedWork::make();
}

std::unique_ptr<Work> ThreadedCollectives::all_gather(Stream& stream, TensorView rows,
                                                      std::span<const int64_t> part_rows,
                                                      TensorView gathered) {
  check_all_gather(rows, part_rows, gathered, rank_, size());
  stream.synchronize();
  enter({.operation = "all_gather",
         .dtype = rows.dtype(),
         .unit = row_bytes(rows),
         .rows = part_rows,
         .data = bytes_of(rows)});
  std::byte* to = bytes_of(gathered);
  for (int r = 0; r < size(); ++r) {
    const int64_t count = part_rows[static_cast<size_t>(r)] * row_bytes(rows);
    copy_bytes(to, call_of(r).data, count);
    to += count;
  }
  leave();
  return FinishedWork::make();
}

std::unique_ptr<Work> ThreadedCollectives::all_to_all(Stream& stream, TensorView send,
                                                      std::span<const int64_t> send_rows,
                                                      TensorView recv,
                                                      std::span<const int64_t> recv_rows) {
  check_all_to_all(send, send_rows, recv, recv_rows, rank_, size());
  stream.synchronize();
  enter({.operation = "all_to_all",
         .dtype = send.dtype(),
         .unit = row_bytes(send),
         .rows = send_rows,
         .recv_rows = recv_rows,
         .data = bytes_of(send)});
  std::byte* to = bytes_of(recv);
  for (int r = 0; r < size(); ++r) {
    const int64_t count = recv_rows[static_cast<size_t>(r)] * row_bytes(recv);
    const int64_t offset = rows_before(call_of(r).rows, rank_) * row_bytes(recv);
    if (count > 0) copy_bytes(to, call_of(r).data + offset, count);
    to += count;
  }
  leave();
  return FinishedWork::make();
}

std::unique_ptr<Work> ThreadedCollectives::broadcast(Stream& stream, TensorView x, int root) {
  check_root(root, size());
  stream.synchronize();
  enter({.operation = "broadcast",
         .dtype = x.dtype(),
         .unit = x.elements(),
         .choice = root,
         .data = bytes_of(x)});
  copy_bytes(bytes_of(x), call_of(root).data, static_cast<int64_t>(x.size_bytes()));
  leave();
  return FinishedWork::make();
}

void ThreadedCollectives::barrier() {
  enter({.operation = "barrier"});
  leave();
}

std::unique_ptr<Collectives> ThreadedCollectives::split(int color) {
  check_color(color);
  enter({.operation = "split", .color = color});
  std::vector<int> members;  // ranks of the world
  int leader = size(), new_rank = 0;
  for (int r = 0; r < size(); ++r) {
    if (call_of(r).color != color) continue;
    leader = std::min(leader, r);
    if (r == rank_) new_rank = static_cast<int>(members.size());
    members.push_back(group_->world_ranks[static_cast<size_t>(r)]);
  }
  auto& made = group_->children[static_cast<size_t>(leader)];
  if (leader == rank_) made = std::make_shared<ThreadedGroup>(group_->run, members);
  meet();
  auto mine = std::make_unique<ThreadedCollectives>(made, new_rank);
  leave();
  if (leader == rank_) made.reset();
  return mine;
}

void ThreadedCollectives::abort(const std::string& reason) noexcept {
  std::lock_guard lock(group_->run->mutex);
  group_->run->fail_locked(world_rank(), reason);
}

std::string where_with_rank(const std::string& where, int rank) {
  if (where.find("rank ") != std::string::npos) return where;
  return (where.empty() ? "" : where + ", ") + "rank " + std::to_string(rank);
}

[[noreturn]] void throw_with_rank(const std::exception_ptr& error, int rank) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    const std::string where = where_with_rank(e.where(), rank);
    switch (e.exit_code()) {
      case ExitCode::kUsage:
        throw ConfigError(e.summary(), where, e.advice());
      case ExitCode::kBadData:
        throw InputError(e.summary(), where, e.advice());
      case ExitCode::kBadCheckpoint:
        throw CheckpointError(e.summary(), where, e.advice());
      case ExitCode::kNumericalStop:
        throw NumericalError(e.summary(), where, e.advice());
      case ExitCode::kRankLost:
        throw RankError(e.summary(), where, e.advice());
      case ExitCode::kNoSpace:
        throw SpaceError(e.summary(), where, e.advice());
      default:
        throw Error(e.exit_code(), e.summary(), where, e.advice());
    }
  } catch (const std::bad_alloc&) {
    throw SpaceError("out of memory", where_with_rank("", rank));
  } catch (const std::exception& e) {
    throw Error(ExitCode::kDefect, e.what(), where_with_rank("", rank));
  }
}

void run_rank(const std::shared_ptr<ThreadedGroup>& world, int rank,
              const std::function<void(Collectives&)>& body) {
  set_current_rank(rank);
  SharedRun& run = *world->run;
  std::exception_ptr error;
  std::string reason;
  try {
    ThreadedCollectives collectives(world, rank);
    body(collectives);
  } catch (const std::exception& e) {
    error = std::current_exception();
    reason = e.what();
  } catch (...) {
    error = std::current_exception();
    reason = "an exception of unknown type";
  }
  std::lock_guard lock(run.mutex);
  if (error) run.fail_locked(rank, reason);
  // abort() may have named the rank as the failed one before it threw.
  if (error && run.failed_rank == rank) run.error = error;
  run.ended[static_cast<size_t>(rank)] = true;
  run.changed.notify_all();
}

}  // namespace

void run_threaded_ranks(int ranks, const std::function<void(Collectives& world)>& body) {
  SWITCHYARD_CHECK(ranks >= 1, ranks, " ranks");
  auto run = std::make_shared<SharedRun>();
  run->ended.resize(static_cast<size_t>(ranks));
  std::vector<int> all(static_cast<size_t>(ranks));
  for (int r = 0; r < ranks; ++r) all[static_cast<size_t>(r)] = r;
  const auto world = std::make_shared<ThreadedGroup>(run, std::move(all));

  std::vector<std::thread> threads;
  try {
    for (int r = 0; r < ranks; ++r) {
      threads.emplace_back([&world, &body, r] { run_rank(world, r, body); });
    }
  } catch (const std::system_error& e) {
    std::lock_guard lock(run->mutex);
    run->fail_locked(static_cast<int>(threads.size()),
                     std::string("its thread could not be started: ") + e.what());
  }
  for (std::thread& thread : threads) thread.join();
  if (run->error) throw_with_rank(run->error, run->failed_rank);
  if (run->failed) {
    throw RankError("rank " + std::to_string(run->failed_rank) + " failed: " + run->reason);
  }
}

}  // namespace switchyard
