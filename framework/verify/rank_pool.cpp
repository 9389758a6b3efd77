#include "verify/rank_pool.h"

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "collectives/threaded.h"

namespace switchyard {

namespace {

class ThreadedPool : public RankPool {
 public:
  explicit ThreadedPool(int threads) : threads_(threads) {}

  int ranks() const override { return 64; }
  const char* advice() const override { return "for more, start verify under mpirun"; }
  void run(int ranks, const Body& body) override {
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    const int threads = std::clamp(cores / ranks, 1, threads_);
    run_threaded_ranks(ranks, [&](Collectives& world) { body(world, threads); });
  }
  void share(Snapshot&) override {}

 private:
  int threads_;
};

class WorldPool : public RankPool {
 public:
  WorldPool(Collectives& world, int threads) : world_(world), threads_(threads) {}

  int ranks() const override { return world_.size(); }
  const char* advice() const override { return "start more ranks, or leave that layout out"; }
  void run(int ranks, const Body& body) override {
    const bool takes_part = world_.rank() < ranks;
    const std::unique_ptr<Collectives> part = world_.split(takes_part ? 0 : 1);
    if (takes_part) body(*part, threads_);
    world_.barrier();
  }
  void share(Snapshot& whole) override { share_whole(world_, whole); }

 private:
  Collectives& world_;
  int threads_;
};

}  // namespace

std::unique_ptr<RankPool> make_threaded_pool(int threads) {
  return std::make_unique<ThreadedPool>(threads);
}

std::unique_ptr<RankPool> make_world_pool(Collectives& world, int threads) {
  return std::make_unique<WorldPool>(world, threads);
}

}  // namespace switchyard
