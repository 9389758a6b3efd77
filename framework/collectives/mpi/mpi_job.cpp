#include "collectives/mpi/mpi_job.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "collectives/launch.h"
#include "collectives/mpi/mpi_check.h"
#include "collectives/mpi/mpi_collectives.h"

namespace switchyard {

void internal::fail_mpi(const char* call, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  const bool known = MPI_Error_string(code, text, &length) == MPI_SUCCESS;
  throw RankError(
      std::string("MPI failed: ") + (known ? std::string(text, static_cast<size_t>(length))
                                           : "error " + std::to_string(code)),
      std::string(call) + ", rank " + std::to_string(current_rank()));
}

namespace {

using std::chrono::milliseconds;

// Within this time the rank that reports has ended the job; below the 5 s in which it must end.
constexpr milliseconds kReporterNeeds{3000};
// How long other machines give the first one, where ranks fail alike.
constexpr milliseconds kFirstNodeNeeds{300};

// MPI from MPI_Init_thread to MPI_Finalize.
class Library {
 public:
  Library() {
    int provided = 0;
    SWITCHYARD_MPI(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided));
    SWITCHYARD_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    SWITCHYARD_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size_));
    int rank = 0;
    SWITCHYARD_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    set_current_rank(rank);
    SWITCHYARD_CHECK(provided >= MPI_THREAD_FUNNELED, "MPI allows no threads: ", provided);
  }
  ~Library() {
    const bool failing = std::uncaught_exceptions() > 0 && size_ > 1;
    if (failing || MPI_Finalize() != MPI_SUCCESS) {
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ExitCode::kRankLost));
    }
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  int size() const { return size_; }

 private:
  int size_ = 1;
};

// One int in memory that the ranks of a machine share: who may print. Plain memory rather than
// messages, since the other ranks are computing, or waiting for something else.
class ReportFlag {
 public:
  ReportFlag() {
    SWITCHYARD_MPI(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node_));
    int rank = 0;
    SWITCHYARD_MPI(MPI_Comm_rank(node_, &rank));
    SWITCHYARD_MPI(MPI_Comm_size(node_, &ranks_));
    SWITCHYARD_MPI(MPI_Win_allocate_shared(rank == 0 ? sizeof(int) : 0, sizeof(int), MPI_INFO_NULL,
                                           node_, &flag_, &window_));
    MPI_Aint size = 0;
    int unit = 0;
    SWITCHYARD_MPI(MPI_Win_shared_query(window_, 0, &size, &unit, &flag_));
    if (rank == 0) std::atomic_ref<int>(*flag_).store(0);
    SWITCHYARD_MPI(MPI_Barrier(node_));
    int first = current_rank();
    SWITCHYARD_MPI(MPI_Bcast(&first, 1, MPI_INT, 0, node_));
    first_node_ = first == 0;
  }
  ~ReportFlag() {
    if (std::uncaught_exceptions() > 0) return;  // collective calls: the others don't come
    if (MPI_Win_free(&window_) != MPI_SUCCESS || MPI_Comm_free(&node_) != MPI_SUCCESS) {
      MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ExitCode::kRankLost));
    }
  }
  ReportFlag(const ReportFlag&) = delete;
  ReportFlag& operator=(const ReportFlag&) = delete;

  int ranks_on_this_node() const { return ranks_; }

  bool claim() noexcept {
    int unclaimed = 0;
    if (!std::atomic_ref<int>(*flag_).compare_exchange_strong(unclaimed, 1)) return false;
    if (!first_node_) std::this_thread::sleep_for(kFirstNodeNeeds);
    return true;
  }

 private:
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
  int* flag_ = nullptr;
  int ranks_ = 1;
  bool first_node_ = true;
};

MPI_Comm copy_of_world() {
  MPI_Comm copy = MPI_COMM_NULL;
  SWITCHYARD_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &copy));
  return copy;
}

class MpiJob : public Job {
 public:
  MpiJob(std::unique_ptr<Library> library, const MpiLimits& limits)
      : library_(std::move(library)), world_(copy_of_world(), limits, *this) {}

  Collectives& world() override { return world_; }
  int ranks_on_this_node() const override { return flag_.ranks_on_this_node(); }

  bool claim_report() noexcept override {
    reports_ = reports_ || flag_.claim();
    return reports_;
  }

  void abort(ExitCode code) noexcept override {
    // The launcher's exit code is the first that it hears: leave that to the rank that reports.
    if (!claim_report()) std::this_thread::sleep_for(kReporterNeeds);
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    std::_Exit(static_cast<int>(code));
  }

 private:
  std::unique_ptr<Library> library_;
  ReportFlag flag_;
  MpiCollectives world_;
  bool reports_ = false;
};

}  // namespace

std::unique_ptr<Job> make_mpi_job(const MpiLimits& limits) {
  auto library = std::make_unique<Library>();
  check_ranks_found_each_other(library->size());
  return std::make_unique<MpiJob>(std::move(library), limits);
}

}  // namespace switchyard
