// Times checkpoints of a model in training, one process with two threads: verifying and loading
// from the page cache (C1), a save that training waits for against a plain sequential write with
// fsync of as many bytes (C2), the pause of one that it doesn't wait for against a plain copy (C3),
// and the steps made meanwhile against steps without a write (C4). What is compared is timed in
// turn; medians. A line each, which ends in `met` or `short`.
// Usage: TMPDIR=<directory on the disk to measure> bench_checkpoints, on idle cores; 1.5 GB of
// memory and of disk, about a minute.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"
#include "base/timer.h"
#include "checkpoint/saver.h"
#include "checkpoint/verify.h"
#include "collectives/single.h"
#include "models/random_source.h"
#include "registry/choices.h"
#include "registry/run_parts.h"
#include "support/temporary_directory.h"
#include "trainer/train_step.h"

namespace switchyard {
namespace {

using Path = std::filesystem::path;

constexpr int kThreads = 2, kVocabulary = 8192;
constexpr int kRepetitions = 7;
constexpr int kWrites = 10;      // while training goes on
constexpr int kStepsAlone = 10;  // before each of these

constexpr const char* kConfig = R"(
name: checkpoints
device: cpu
model: {d_model: 384, d_kv: 64, d_ff: 1536, heads: 6, encoder_layers: 2, decoder_layers: 2}
moe:
  experts: 8
  group_sequences: 2
  encoder: {layers: {every: 2}}
  decoder: {layers: {every: 2}}
train: {steps: 1000, batch_sequences: 4}
optimizer: {type: adamw}
schedule: {type: constant, learning_rate: 0.001}
)";

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
  return values[values.size() / 2];
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double seconds_of(const std::function<void()>& action) {
  const Timer timer;
  action();
  return timer.seconds();
}

const char* verdict(bool met) { return met ? "met" : "short"; }

// A run of one rank, and what its checkpoints hold.
class Run {
 public:
  explicit Run(const Path& directory)
      : config_(parse_config(kConfig, "checkpoints.yaml", {}, choice_tables())),
        parts_(config_, kVocabulary, *world_, kThreads),
        step_({*parts_.kernels, parts_.groups, *parts_.model, *parts_.optimizer, *parts_.schedule,
               source_},
              step_options(config_, parts_.layout)) {
    train();  // which makes the optimizer's state
    CheckpointState state;
    state.config_text = kConfig;
    state.weights.assign(parts_.weights.begin(), parts_.weights.end());
    state.optimizer = parts_.optimizer->states();
    saver_ = std::make_unique<CheckpointSaver>(directory, state, parts_.groups,
                                               SaveOptions{.run_id = "bench"});
    for (const Weight* weight : parts_.weights) bytes_ += weight->master().size_bytes();
    for (const OptimizerState& kept : state.optimizer) bytes_ += kept.value.size_bytes();
  }

  size_t bytes() const { return bytes_; }
  CheckpointSaver& saver() { return *saver_; }
  void train() { step_.run(steps_++); }
  void load(const Path& path) {
    Checkpoint::open(path).load(parts_.weights, parts_.optimizer->states(), *world_);
  }
  CheckpointPosition position() const { return {.step = steps_}; }

 private:
  const std::unique_ptr<Collectives> world_ = make_single_collectives();
  const Config config_;
  const test::RandomSource source_{64, 32, kVocabulary};
  RunParts parts_;
  TrainStep step_;
  std::unique_ptr<CheckpointSaver> saver_;
  int64_t steps_ = 0;
  size_t bytes_ = 0;
};

// A rate in GB/s, of the median time.
double rate(size_t bytes, const std::vector<double>& seconds) {
  return static_cast<double>(bytes) * 1e-9 / median(seconds);
}

// The file's bytes by one thread, a MiB at a time.
void read_plainly(const Path& path) {
  static std::vector<std::byte> buffer(kChunkBytes);
  const int file = ::open(path.c_str(), O_RDONLY);
  SWITCHYARD_CHECK(file >= 0, path.string());
  while (::read(file, buffer.data(), buffer.size()) > 0) {
  }
  ::close(file);
}

void measure_reading(Run& run, const Path& checkpoint) {
  ThreadPool one(1), team(kThreads);
  std::vector<double> plain, alone, together, loaded;
  for (int i = 0; i < kRepetitions; ++i) {
    plain.push_back(seconds_of([&] {
      for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
        read_plainly(entry.path());
      }
    }));
    const auto verify = [&](ThreadPool& threads) {
      const Verification found = verify_checkpoint(Checkpoint::open(checkpoint), threads);
      SWITCHYARD_CHECK(found.damage.empty() && found.bytes > run.bytes(), checkpoint.string());
    };
    alone.push_back(seconds_of([&] { verify(one); }));
    together.push_back(seconds_of([&] { verify(team); }));
    loaded.push_back(seconds_of([&] { run.load(checkpoint); }));
  }
  const double verified = rate(run.bytes(), alone), taken = rate(run.bytes(), loaded);
  fmt::print(
      "C1 verify: {:.2f} GB/s on one core, {:.2f} on {}; loading, verified: {:.2f} GB/s on one; "
      "wanted: 1 GB/s a core; reading without hashes: {:.2f} GB/s: {}\n",
      verified, rate(run.bytes(), together), kThreads, taken, rate(run.bytes(), plain),
      verdict(verified >= 1 && taken >= 1));
}

// One file, written from memory and synced.
void write_plainly(const Path& path, const std::vector<std::byte>& bytes) {
  const int file = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  SWITCHYARD_CHECK(file >= 0, path.string());
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t written =
        ::write(file, bytes.data() + at, std::min(size_t{kChunkBytes}, bytes.size() - at));
    SWITCHYARD_CHECK(written > 0, path.string());
    at += static_cast<size_t>(written);
  }
  SWITCHYARD_CHECK(::fsync(file) == 0 && ::close(file) == 0, path.string());
}

// What was written before, and the removal of it, is not to be waited for by what comes next.
void remove_and_settle(const Path& path) {
  std::filesystem::remove_all(path);
  ::sync();
}

void measure_writing(Run& run, const Path& directory) {
  const std::vector<std::byte> bytes(run.bytes(), std::byte{1});
  std::vector<double> plain, saved;
  for (int i = 0; i <= kRepetitions; ++i) {
    const Path file = directory / "plain";
    const double write = seconds_of([&] { write_plainly(file, bytes); });
    remove_and_settle(file);
    Path path;
    const double save = seconds_of([&] { path = run.saver().save(run.position()); });
    remove_and_settle(path);
    if (i == 0) continue;  // the page cache's first pages
    plain.push_back(write);
    saved.push_back(save);
  }
  const double ours = rate(run.bytes(), saved), theirs = rate(run.bytes(), plain);
  fmt::print(
      "C2 write: {:.2f} GB/s; a plain write with fsync: {:.2f} GB/s; {:.0f} % of it, "
      "wanted: 80 %: {}\n",
      ours, theirs, 100 * ours / theirs, verdict(ours >= 0.8 * theirs));
}

void measure_training(Run& run) {
  const std::vector<std::byte> from(run.bytes(), std::byte{1});
  std::vector<std::byte> to(run.bytes());
  std::vector<double> copies, pauses, alone, during, longer, writes;
  double longest = 0;
  size_t made = 0;
  run.saver().reserve();
  for (int i = 0; i < kWrites; ++i) {
    copies.push_back(seconds_of([&] { std::memcpy(to.data(), from.data(), from.size()); }));
    std::vector<double> before, meanwhile;
    for (int step = 0; step < kStepsAlone; ++step) {
      before.push_back(seconds_of([&] { run.train(); }));
    }
    const Timer writing;
    pauses.push_back(seconds_of([&] { run.saver().start(run.position()); }));
    std::optional<Path> path;
    while (!path) {
      meanwhile.push_back(seconds_of([&] {
        run.train();
        path = run.saver().poll();
      }));
    }
    writes.push_back(writing.seconds());
    remove_and_settle(*path);
    made += meanwhile.size();
    longest = std::max(longest, *std::ranges::max_element(meanwhile));
    alone.push_back(mean(before));
    during.push_back(mean(meanwhile));
    longer.push_back(during.back() / alone.back());
  }
  const double pause = median(pauses), copy = median(copies), ratio = median(longer);
  fmt::print(
      "C3 pause: {:.0f} ms; a plain copy of {:.0f} MB: {:.0f} ms; {:.2f} times, wanted: 1.3 "
      "times: {}\n",
      1e3 * pause, static_cast<double>(run.bytes()) * 1e-6, 1e3 * copy, pause / copy,
      verdict(pause <= 1.3 * copy));
  fmt::print(
      "C4 later steps: {:.0f} ms during a write, {:.0f} ms without; {:.2f} times, wanted: "
      "1.2 times; {} steps in {} writes of {:.1f} s, the longest {:.0f} ms: {}\n",
      1e3 * median(during), 1e3 * median(alone), ratio, made, kWrites, median(writes),
      1e3 * longest, verdict(ratio <= 1.2));
}

}  // namespace
}  // namespace switchyard

int main() {
  using namespace switchyard;
  const TemporaryDirectory directory;
  Run run(directory.path());
  const auto checkpoint = run.saver().save(run.position());
  measure_reading(run, checkpoint);
  measure_writing(run, directory.path());
  measure_training(run);
  return 0;
}
