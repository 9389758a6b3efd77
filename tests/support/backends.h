// The backends that this build's tests hold against the reference, and one of them set up to run
// operations.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/kernels.h"

namespace switchyard::test {

struct BackendUnderTest {
  std::string name;  // as test names show it: letters, digits and '_'
  std::function<std::unique_ptr<Kernels>()> make;
  std::vector<DType> dtypes;  // of activations, to be tested
  bool row_stable = true;     // a row's product doesn't depend on the other rows of the call
  bool usable = true;         // here; else its tests are skipped, never passed
};

// Every backend of this build, once for each path of its code that is chosen at run time.
std::vector<BackendUnderTest> backends_under_test();

// A backend with a stream and scratch memory of its own.
class Device {
 public:
  explicit Device(std::unique_ptr<Kernels> kernels)
      : kernels_(std::move(kernels)),
        stream_(kernels_->make_stream()),
        scratch_(kernels_->memory()),
        context_{*kernels_, *stream_, scratch_} {}

  ExecContext& context() { return context_; }
  // From here on gradients are summed as ordered sums.
  void order_sums(int64_t leaves, int64_t leaf_rows) {
    refused_ = Tensor(DType::kInt64, {1}, memory());
    fill_zero(context_, refused_);
    ordered_ = {leaves, leaf_rows, refused_};
    context_.ordered = &ordered_;
  }
  // Partials that were left out.
  int64_t refused() { return read_back_as<int64_t>(context_, refused_).front(); }
  Memory& memory() { return kernels_->memory(); }

 private:
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Stream> stream_;
  Arena scratch_;
  ExecContext context_;
  Tensor refused_;
  OrderedSums ordered_;
};

// The oracle: the reference backend.
Device reference_device();

}  // namespace switchyard::test
