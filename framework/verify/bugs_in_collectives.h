// Planted bugs of what ranks tell each other.
#pragma once

#include "verify/collectives_decorator.h"
#include "verify/planted_bugs.h"

namespace switchyard {

// The first sum of an update is the gradient norm's.
class DoubledNorm : public RunHooks {
  void connect(Groups& groups) override;
  void before_update(HookedRank&) override { in_update_ = true; }
  std::unique_ptr<Collectives> world_;
  bool in_update_ = false;
};

class LocalNorm : public RunHooks {
  void connect(Groups& groups) override;
  void before_update(HookedRank&) override { in_update_ = true; }
  std::unique_ptr<Collectives> world_;
  bool in_update_ = false;
};

class WrongCount : public RunHooks {
 public:
  explicit WrongCount(const PlantingPlace& at) : experts_(at.config.moe.experts) {}

 private:
  void connect(Groups& groups) override;
  std::unique_ptr<Collectives> expert_;
  int64_t experts_;
};

}  // namespace switchyard
