// How far a training run is and how fast, from the steps of this process, as a line or as a bar.
#pragma once

#include <deque>
#include <string>

#include "report/records.h"

namespace switchyard {

// What line and bar show.
struct ProgressFigures {
  StepRecord last;  // the latest step
  int64_t total_steps = 0;
  double tokens_per_second = 0, flops_per_second = 0;  // over the steps that the caller asked for
  double seconds_left = 0;
};

class ProgressMeter {
 public:
  //   total_steps  of the run
  explicit ProgressMeter(int64_t total_steps) : total_steps_(total_steps) {}

  void add(const StepRecord& record);
  // Time that evaluations take counts for the time left.
  void add(const EvaluationRecord& record) { seconds_ += record.seconds; }

  int64_t steps_seen() const { return steps_seen_; }
  // Speeds over the steps since the last call of since_last().
  ProgressFigures since_last();
  // Speeds over the latest few steps.
  ProgressFigures recent() const;

 private:
  struct Work {
    double seconds = 0, tokens = 0, flops = 0;
    void add(const Work& other);
  };
  ProgressFigures figures(const Work& work) const;

  int64_t total_steps_, steps_seen_ = 0;
  double seconds_ = 0;
  StepRecord last_;
  Work since_last_;
  std::deque<Work> recent_;  // step by step
};

// At most 200 bytes, no control characters.
std::string progress_line(const ProgressFigures& figures);

// Fits into `columns - 1` columns: what matters least is left out first. ASCII only.
std::string progress_bar(const ProgressFigures& figures, int columns);

}  // namespace switchyard
