#include "verify/bugs_in_collectives.h"

#include <algorithm>
#include <utility>

namespace switchyard {

namespace {

class DoublesOnce : public CollectivesDecorator {
 public:
  DoublesOnce(Collectives& inner, bool& armed) : CollectivesDecorator(inner), armed_(armed) {}
  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override {
    if (std::exchange(armed_, false)) {
      double* values = x.data<double>();
      for (int64_t i = 0; i < x.elements(); ++i) values[i] *= 2;
    }
    return inner_.all_reduce(stream, x, op);
  }

 private:
  bool& armed_;
};

class SkipsOnce : public CollectivesDecorator {
 public:
  SkipsOnce(Collectives& inner, bool& armed) : CollectivesDecorator(inner), armed_(armed) {}
  std::unique_ptr<Work> all_reduce(Stream& stream, TensorView x, ReduceOp op) override {
    if (!std::exchange(armed_, false)) return inner_.all_reduce(stream, x, op);
    return std::make_unique<Done>();
  }

 private:
  struct Done : Work {
    void wait() override {}
  };
  bool& armed_;
};

// Rank 0 tells the others of a row more for the last expert than it has.
class Overstates : public CollectivesDecorator {
 public:
  Overstates(Collectives& inner, int64_t experts)
      : CollectivesDecorator(inner), experts_(experts) {}
  std::unique_ptr<Work> all_gather(Stream& stream, TensorView rows,
                                   std::span<const int64_t> part_rows,
                                   TensorView gathered) override {
    const Shape& shape = rows.shape();
    const bool counts = rows.dtype() == DType::kInt64 && shape.rank() == 2 && shape[1] == experts_;
    if (rank() != 0 || !counts || rows.elements() == 0) {
      return inner_.all_gather(stream, rows, part_rows, gathered);
    }
    const auto* first = rows.data<int64_t>();
    std::vector<int64_t> told(first, first + rows.elements());
    const std::vector<int64_t> own = told;
    told[static_cast<size_t>(experts_) - 1] += 1;
    auto work = inner_.all_gather(stream, {told.data(), DType::kInt64, shape}, part_rows, gathered);
    work->wait();
    std::copy(own.begin(), own.end(), gathered.data<int64_t>());
    return work;
  }

 private:
  int64_t experts_;
};

}  // namespace

void DoubledNorm::connect(Groups& groups) {
  world_ = std::make_unique<DoublesOnce>(*groups.world, in_update_);
  groups.world = world_.get();
}

void LocalNorm::connect(Groups& groups) {
  world_ = std::make_unique<SkipsOnce>(*groups.world, in_update_);
  groups.world = world_.get();
}

void WrongCount::connect(Groups& groups) {
  expert_ = std::move(groups.expert);
  groups.expert = std::make_unique<Overstates>(*expert_, experts_);
}

}  // namespace switchyard
