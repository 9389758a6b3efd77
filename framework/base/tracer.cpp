#include "base/tracer.h"

#include <chrono>
#include <numeric>

#include "base/check.h"

namespace switchyard {

std::string_view name_of(Phase phase) {
  constexpr std::array<std::string_view, kPhases> kNames = {
      "data",   "forward",   "routing", "exchange",   "experts",    "combine", "backward",
      "reduce", "optimizer", "metrics", "evaluation", "checkpoint", "other"};
  return kNames[static_cast<size_t>(phase)];
}

int64_t Tracer::steady_nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

Tracer::Tracer(size_t capacity, Clock clock) : clock_(clock) {
  spans_.resize(capacity);  // touches the pages now rather than inside a step
  restart();
}

void Tracer::restart() {
  SWITCHYARD_CHECK(depth_ == 0, depth_, " spans are open");
  spans_.clear();
  self_ns_ = {};
  left_out_ = outermost_ = 0;
  start_ns_ = last_ns_ = clock_();
}

// The time since the last call belongs to the innermost open span.
int64_t Tracer::advance() {
  const int64_t now = clock_();
  if (depth_ > 0) self_ns_[static_cast<size_t>(phase())] += now - last_ns_;
  last_ns_ = now;
  return now - start_ns_;
}

void Tracer::begin(Phase phase, const char* name, int64_t number) {
  SWITCHYARD_CHECK(depth_ < kMaxDepth, depth_, " spans inside each other");
  const int64_t now = advance();
  Open& open = open_[depth_++];
  open = {phase, kLeftOut};
  if (spans_.size() == spans_.capacity()) {
    ++left_out_;
    return;
  }
  open.span = spans_.size();
  spans_.push_back({.name = name, .phase = phase, .number = number, .begin_ns = now});
}

void Tracer::end() {
  const int64_t now = advance();
  const Open& open = open_[--depth_];
  if (open.span != kLeftOut) spans_[open.span].end_ns = now;
  if (depth_ == 0) ++outermost_;
}

double Tracer::seconds(Phase phase) const {
  return static_cast<double>(self_ns_[static_cast<size_t>(phase)]) * 1e-9;
}

double Tracer::seconds() const {
  return static_cast<double>(std::accumulate(self_ns_.begin(), self_ns_.end(), int64_t{0})) * 1e-9;
}

}  // namespace switchyard
