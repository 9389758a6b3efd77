// Where the ranks of a layout come from: threads of this process, or those that mpirun started.
#pragma once

#include <functional>
#include <memory>

#include "verify/snapshot.h"

namespace switchyard {

class RankPool {
 public:
  virtual ~RankPool() = default;

  // The most ranks that a layout may have, and what to say to a user who wants more.
  virtual int ranks() const = 0;
  virtual const char* advice() const = 0;

  //   world    the layout's ranks
  //   threads  of each rank's team
  using Body = std::function<void(Collectives& world, int threads)>;
  // Runs body on `ranks` ranks. Every process calls it; those that have none of the ranks do
  // nothing.
  virtual void run(int ranks, const Body& body) = 0;

  // Brings what rank 0 of a layout made to every process, which has it in `whole`.
  virtual void share(Snapshot& whole) = 0;
};

//   threads  of a rank at most; the machine's cores are shared out among the ranks
std::unique_ptr<RankPool> make_threaded_pool(int threads);
// The first ranks of `world`, which outlives it.
std::unique_ptr<RankPool> make_world_pool(Collectives& world, int threads);

}  // namespace switchyard
