// Where a rank's time goes: nested spans, each in a phase, kept in a buffer of fixed size for a
// trace, and summed up by phase whatever the buffer holds. Time belongs to the innermost span
// ("self time"), so that the phases of a step add up to the step. It is the host's time: what a
// device does while the host goes on is seen where the host waits for it.
//
// One tracer a rank, used by the rank's own thread alone. Code reaches it through its context, null
// where nothing is traced: a Span then costs a branch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace switchyard {

enum class Phase : uint8_t {
  kData,        // batches made and brought to the device
  kForward,     // of it whatever isn't routing, exchange, experts or combine
  kRouting,     // forward and backward, as the three that follow
  kExchange,    // rows between ranks, on one rank too: order, copies, waiting
  kExperts,     // the experts' products
  kCombine,     // results weighted and added up for each token
  kBackward,    // as kForward
  kReduce,      // gradients summed over ranks, updated weights handed out
  kOptimizer,   // norm of the gradients, update
  kMetrics,     // what is observed, summed over ranks and recorded
  kEvaluation,  // with all that it computes
  kCheckpoint,
  kOther,  // in none of these
};
inline constexpr size_t kPhases = 13;
std::string_view name_of(Phase phase);

struct TracedSpan {
  const char* name = nullptr;  // static; null: the phase's
  Phase phase = Phase::kOther;
  int64_t number = kNoNumber;            // of a step or block
  int64_t begin_ns = 0, end_ns = kOpen;  // from the tracer's start

  static constexpr int64_t kNoNumber = -1, kOpen = -1;
};

class Tracer {
 public:
  // About 15 MB: some hundred steps of a model with a dozen blocks.
  static constexpr size_t kDefaultCapacity = 400'000;
  using Clock = int64_t (*)();  // nanoseconds
  static int64_t steady_nanoseconds();

  // Allocates the buffer; nothing does later.
  explicit Tracer(size_t capacity = kDefaultCapacity, Clock clock = steady_nanoseconds);

  // Forgets all spans; times count from now on. Ranks that call it after a barrier have one time.
  void restart();

  // A span begins inside the one that is open; see Span, which pairs it with end().
  void begin(Phase phase, const char* name, int64_t number);
  void end();
  Phase phase() const { return depth_ == 0 ? Phase::kOther : open_[depth_ - 1].phase; }

  // Closed spans in the order of their beginnings, those that found room.
  const std::vector<TracedSpan>& spans() const { return spans_; }
  // Spans that found the buffer full: they are missing from spans(), not from seconds().
  int64_t left_out() const { return left_out_; }
  // Of closed and open spans up to the last beginning or end.
  double seconds(Phase phase) const;
  // Of all phases: the time inside outermost spans.
  double seconds() const;
  // Outermost spans that have ended: steps.
  int64_t outermost() const { return outermost_; }

 private:
  static constexpr size_t kMaxDepth = 32, kLeftOut = SIZE_MAX;
  struct Open {
    Phase phase;
    size_t span;  // into spans_, or kLeftOut
  };
  int64_t advance();

  Clock clock_;
  std::vector<TracedSpan> spans_;
  std::array<Open, kMaxDepth> open_{};
  std::array<int64_t, kPhases> self_ns_{};
  size_t depth_ = 0;
  int64_t start_ns_ = 0, last_ns_ = 0, left_out_ = 0, outermost_ = 0;
};

// A span from its construction to its end, for a tracer or for none.
class [[nodiscard]] Span {
 public:
  //   name  static; null: the phase's
  Span(Tracer* tracer, Phase phase, const char* name = nullptr,
       int64_t number = TracedSpan::kNoNumber)
      : tracer_(tracer) {
    begin(phase, name, number);
  }
  // A part of the phase around it, told apart in the trace alone.
  Span(Tracer* tracer, const char* name, int64_t number = TracedSpan::kNoNumber) : tracer_(tracer) {
    if (tracer_) begin(tracer_->phase(), name, number);
  }
  ~Span() { end(); }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Ends it and begins the next one in its place.
  void then(Phase phase) {
    end();
    begin(phase, nullptr, TracedSpan::kNoNumber);
  }
  // The same for a part.
  void then(const char* name) {
    end();
    if (tracer_) begin(tracer_->phase(), name, TracedSpan::kNoNumber);
  }
  // Before its scope does, until the next one begins.
  void end() {
    if (open_) tracer_->end();
    open_ = false;
  }

 private:
  void begin(Phase phase, const char* name, int64_t number) {
    if (tracer_) tracer_->begin(phase, name, number);
    open_ = tracer_ != nullptr;
  }

  Tracer* tracer_;
  bool open_ = false;
};

}  // namespace switchyard
