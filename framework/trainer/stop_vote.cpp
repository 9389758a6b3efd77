#include "trainer/stop_vote.h"

namespace switchyard {

int StopVote::agreed() {
  if (agreed_ != 0) return agreed_;
  int64_t signal = signal_();
  InlineStream stream;
  world_.all_reduce(stream, TensorView(&signal, DType::kInt64, {1}), ReduceOp::kMax)->wait();
  agreed_ = static_cast<int>(signal);
  return agreed_;
}

}  // namespace switchyard
