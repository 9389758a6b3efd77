#include "checkpoint/agree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include "base/errors.h"
#include "tensor/tensor.h"

namespace switchyard {
namespace {

// What of an Error travels to the other ranks.
struct Report {
  int64_t code = 0;
  char what[1024] = {}, where[1024] = {}, advice[512] = {};
};

template <size_t kSize>
void fill(char (&field)[kSize], const std::string& text) {
  std::memcpy(field, text.data(), std::min(text.size(), kSize - 1));
}

Report report_of(const std::exception_ptr& error) {
  Report report;
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    report.code = static_cast<int64_t>(e.exit_code());
    fill(report.what, e.summary());
    fill(report.where, e.where());
    fill(report.advice, e.advice());
  } catch (const std::bad_alloc&) {
    report.code = static_cast<int64_t>(ExitCode::kNoSpace);
    fill(report.what, "out of memory");
  } catch (const std::exception& e) {
    report.code = static_cast<int64_t>(ExitCode::kDefect);
    fill(report.what, e.what());
  }
  return report;
}

}  // namespace

std::vector<std::string> gather_texts(Collectives& world, std::string mine) {
  InlineStream stream;
  const auto ranks = static_cast<size_t>(world.size());
  auto size = static_cast<int64_t>(mine.size());
  std::vector<int64_t> sizes(ranks);
  const std::vector<int64_t> ones(ranks, 1);
  world
      .all_gather(stream, TensorView(&size, DType::kInt64, {1}), ones,
                  TensorView(sizes.data(), DType::kInt64, {world.size()}))
      ->wait();
  int64_t total = 0;
  for (const int64_t part : sizes) total += part;
  std::string all(static_cast<size_t>(total), '\0');
  world
      .all_gather(stream, TensorView(mine.data(), DType::kUint8, {size}), sizes,
                  TensorView(all.data(), DType::kUint8, {total}))
      ->wait();
  std::vector<std::string> parts;
  size_t at = 0;
  for (const int64_t part : sizes) {
    parts.push_back(all.substr(at, static_cast<size_t>(part)));
    at += static_cast<size_t>(part);
  }
  return parts;
}

void run_and_agree(Collectives& world, const std::function<void()>& action) {
  std::exception_ptr error;
  try {
    action();
  } catch (...) {  // carried over to after the vote
    error = std::current_exception();
  }
  InlineStream stream;
  int64_t failed = error ? world.rank() + 1 : 0;
  world.all_reduce(stream, TensorView(&failed, DType::kInt64, {1}), ReduceOp::kMax)->wait();
  if (failed == 0) return;
  const int reporter = static_cast<int>(failed - 1);
  Report report;
  if (error && world.rank() == reporter) report = report_of(error);
  world.broadcast(stream, TensorView(&report, DType::kUint8, {sizeof report}), reporter)->wait();
  if (error) std::rethrow_exception(error);
  throw Error(static_cast<ExitCode>(report.code), report.what,
              fmt::format("{}{}rank {}", report.where, *report.where ? ", " : "", reporter),
              report.advice);
}

}  // namespace switchyard
