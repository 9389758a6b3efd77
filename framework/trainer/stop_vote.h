// Whether the ranks stop early, decided together: signals reach them at different times.
#pragma once

#include <functional>

#include "collectives/collectives.h"

namespace switchyard {

class StopVote {
 public:
  //   signal  what has reached this rank: a signal's number, or 0
  StopVote(Collectives& world, std::function<int()> signal)
      : world_(world), signal_(std::move(signal)) {}

  // The signal that has reached any of the ranks; 0 if none. Once it is not, it stays as it is.
  // Every rank calls it; the same answer on each.
  int agreed();

 private:
  Collectives& world_;
  std::function<int()> signal_;
  int agreed_ = 0;
};

}  // namespace switchyard
