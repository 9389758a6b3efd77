// The processes that were started together and how this one belongs to them. main() makes one Job,
// catches errors inside its lifetime and ends all ranks through it:
//
//   try { run(job->world()); } catch (const Error& e) {
//     if (job->claim_report()) print(e, job->world().rank());
//     job->abort(e.exit_code());
//   }
#pragma once

#include "base/errors.h"
#include "collectives/collectives.h"

namespace switchyard {

class Job {
 public:
  // Waits for the other ranks to get here too. Groups split from world() must be gone by then.
  virtual ~Job() = default;

  // All ranks. Its operations run on the thread that made the Job.
  virtual Collectives& world() = 0;

  // How many ranks share this machine's cores, this one included.
  virtual int ranks_on_this_node() const = 0;

  // Whether this rank is the one to print why the job ends. Of several that fail at once only one
  // gets true (on different machines: as a rule), so that the reason is printed once. Call it
  // before abort(), and print before that too.
  virtual bool claim_report() noexcept = 0;

  // Ends all other ranks and, where there are any, this process with `code`, which the launcher
  // hands on as its own exit code. Returns only in a job of one rank.
  virtual void abort(ExitCode code) noexcept = 0;
};

}  // namespace switchyard
