// The emulation itself: right kernels are run rightly under every schedule, and each planted
// mistake is found by the variant that should find it. CUDA_EMULATION_ADDRESS and
// CUDA_EMULATION_THREAD name the sanitizers of this program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "cuda_emulation/planted_kernels.h"
#include "cuda_emulation/runtime/device.h"

namespace switchyard::planted {
namespace {

using cuda_emulation::Order;
using testing::HasSubstr;

#ifdef CUDA_EMULATION_ADDRESS
constexpr bool kAddress = true;
#else
constexpr bool kAddress = false;
#endif
#ifdef CUDA_EMULATION_THREAD
constexpr bool kThread = true;
#else
constexpr bool kThread = false;
#endif

void set_schedule(Order order, uint64_t seed = 0) {
  cuda_emulation::Device::instance().set_schedule({order, seed});
}

cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  GPU_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

// Elements of the device that the host reads and writes as a whole, waiting.
template <typename T>
class Elements {
 public:
  explicit Elements(std::vector<T> host) : size_(host.size()) {
    GPU_CHECK(cudaMalloc(&data, host.size() * sizeof(T)));
    GPU_CHECK(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit Elements(size_t size) : size_(size) { GPU_CHECK(cudaMalloc(&data, size * sizeof(T))); }
  ~Elements() { cudaFree(data); }
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  std::vector<T> host() const {
    std::vector<T> host(size_);
    GPU_CHECK(cudaMemcpy(host.data(), data, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

  T* data = nullptr;

 private:
  size_t size_;
};

std::vector<float> counting(int count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 1.0f);
  return numbers;
}

std::vector<float> rings_by_hand(std::vector<float> x, int ring, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const std::vector<float> before = x;
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t first = i / static_cast<size_t>(ring) * static_cast<size_t>(ring);
      x[i] += before[first + (i - first + 1) % static_cast<size_t>(ring)];
    }
  }
  return x;
}

constexpr int kBlocks = 3, kRounds = 4, kCount = kBlocks * kThreads;

bool rings_right(Mistake mistake) {
  const Elements<float> x(counting(kCount)), y(kCount);
  cudaStream_t stream = make_stream();
  launch_rings(mistake, x.data, y.data, kBlocks, kRounds, stream);
  GPU_CHECK(cudaStreamSynchronize(stream));
  GPU_CHECK(cudaStreamDestroy(stream));
  return y.host() == rings_by_hand(counting(kCount), kThreads, kRounds);
}

bool warp_rings_right(Mistake mistake) {
  const Elements<float> x(counting(kCount)), y(kCount);
  launch_warp_rings(mistake, x.data, y.data, kBlocks, nullptr);
  return y.host() == rings_by_hand(counting(kCount), 32, 1);
}

bool count_right(Mistake mistake) {
  const Elements<int> sum(std::vector<int>{5});
  launch_count(mistake, sum.data, 8, nullptr);
  return sum.host().front() == 5 + 8 * kThreads;
}

bool copy_right(Mistake mistake) {
  const Elements<float> x(counting(1000)), y(1000);
  launch_copy(mistake, x.data, y.data, 1000, nullptr);
  return y.host() == counting(1000);
}

// One stream writes, another reads; `waits`: for the event in between.
bool streams_right(bool waits) {
  const Elements<float> x(counting(kCount)), y(kCount), z(kCount);
  cudaStream_t first = make_stream(), second = make_stream();
  cudaEvent_t written = nullptr;
  GPU_CHECK(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
  launch_rings(Mistake::kNone, x.data, y.data, kBlocks, 1, first);
  GPU_CHECK(cudaEventRecord(written, first));
  if (waits) GPU_CHECK(cudaStreamWaitEvent(second, written));
  launch_rings(Mistake::kNone, y.data, z.data, kBlocks, 1, second);
  GPU_CHECK(cudaStreamSynchronize(second));
  GPU_CHECK(cudaStreamDestroy(first));
  GPU_CHECK(cudaStreamDestroy(second));
  GPU_CHECK(cudaEventDestroy(written));
  return z.host() == rings_by_hand(counting(kCount), kThreads, 2);
}

// What the host reads from pinned memory after a copy; `waits`: for the stream.
bool pinned_copy_right(bool waits) {
  const Elements<float> x(counting(kCount));
  cudaStream_t stream = make_stream();
  float* pinned = nullptr;
  GPU_CHECK(cudaMallocHost(reinterpret_cast<void**>(&pinned), kCount * sizeof(float)));
  GPU_CHECK(
      cudaMemcpyAsync(pinned, x.data, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
  if (waits) GPU_CHECK(cudaStreamSynchronize(stream));
  const std::vector<float> read(pinned, pinned + kCount);
  GPU_CHECK(cudaStreamDestroy(stream));
  GPU_CHECK(cudaFreeHost(pinned));
  return read == counting(kCount);
}

class Emulation : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  void TearDown() override { set_schedule(Order::kAscending); }
};

TEST_F(Emulation, RunsRightKernelsUnderEverySchedule) {
  for (const Order order :
       {Order::kAscending, Order::kDescending, Order::kRandom, Order::kPriority}) {
    for (uint64_t seed = 0; seed < 10; ++seed) {
      set_schedule(order, seed);
      EXPECT_TRUE(rings_right(Mistake::kNone));
      EXPECT_TRUE(warp_rings_right(Mistake::kNone));
      EXPECT_TRUE(count_right(Mistake::kNone));
      EXPECT_TRUE(copy_right(Mistake::kNone));
      EXPECT_TRUE(streams_right(true));
      EXPECT_TRUE(pinned_copy_right(true));
    }
  }
}

TEST_F(Emulation, KnowsTheWarpOperations) {
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kPriority}) {
    set_schedule(order);
    const Elements<int64_t> y(320);
    launch_warp_operations(y.data, nullptr);
    const std::vector<int64_t> rows = y.host();
    for (int lane = 0; lane < 32; ++lane) {
      const std::vector<int64_t> row(rows.begin() + lane * 10, rows.begin() + lane * 10 + 10);
      EXPECT_EQ(row, (std::vector<int64_t>{5, lane % 8 < 3 ? lane : lane - 3,
                                           lane % 16 > 12 ? lane : lane + 3, lane ^ 17, 0x49249249,
                                           1, int64_t{0x11111111} << lane % 4, -9 * 1000 - 40,
                                           lane < 16 ? 120 : 20, 1601}))
          << lane;
    }
  }
}

TEST_F(Emulation, SharedAndDeviceMemoryStartAsNaN) {
  const Elements<float> y(kThreads), untouched(kThreads);
  launch_reads_uninitialised(y.data, nullptr);
  for (const float number : y.host()) EXPECT_TRUE(std::isnan(number));
  for (const float number : untouched.host()) EXPECT_TRUE(std::isnan(number));
}

template <typename Launch>
std::string report_of(Launch launch) {
  try {
    launch(static_cast<cudaStream_t>(nullptr));
    GPU_CHECK(cudaDeviceSynchronize());
  } catch (const Error& error) {
    GPU_CHECK(cudaDeviceSynchronize());  // told once
    return error.what();
  }
  return "nothing";
}

TEST_F(Emulation, ReportsBarriersAndMasksThatTheLanguageForbids) {
  for (const Order order : {Order::kAscending, Order::kDescending, Order::kPriority}) {
    set_schedule(order);
    EXPECT_THAT(report_of(launch_divergent_barrier),
                HasSubstr("32 threads returned, the first is 32"));
    EXPECT_THAT(report_of(launch_two_barriers), HasSubstr("different barriers"));
    EXPECT_THAT(report_of(launch_exited_lanes), HasSubstr("planted_kernels.cpp"));
    EXPECT_THAT(report_of(launch_foreign_lane), HasSubstr("outside the mask"));
    EXPECT_THAT(report_of(launch_too_much_shared), HasSubstr("more shared memory"));
    EXPECT_TRUE(rings_right(Mistake::kNone)) << "after errors";
  }
}

TEST_F(Emulation, ReportsWrongArgumentsOfCalls) {
  int host_sum = 0;
  EXPECT_THAT(
      report_of([&](cudaStream_t stream) { launch_count(Mistake::kNone, &host_sum, 1, stream); }),
      HasSubstr("argument 2"));
  const Elements<int> two(2);
  std::vector<int> host(3);
  const auto copies = [&](size_t size, cudaMemcpyKind kind) {
    return report_of(
        [&](cudaStream_t) { GPU_CHECK(cudaMemcpy(host.data(), two.data, size, kind)); });
  };
  EXPECT_EQ(copies(8, cudaMemcpyDeviceToHost), "nothing");
  EXPECT_THAT(copies(12, cudaMemcpyDeviceToHost), HasSubstr("past the end"));
  EXPECT_THAT(copies(8, cudaMemcpyHostToDevice), HasSubstr("another kind"));
  EXPECT_THAT(report_of([&](cudaStream_t) { GPU_CHECK(cudaMemset(host.data(), 0, sizeof(int))); }),
              HasSubstr("memset"));
}

// In how many of ten runs the result is wrong.
template <typename Right>
int wrong_of_ten(Order order, Right right) {
  int wrong = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    set_schedule(order, seed);
    wrong += !right();
  }
  return wrong;
}

TEST_F(Emulation, WrongResultsShowMissingBarriersAndWaits) {
  if (kThread) GTEST_SKIP() << "ThreadSanitizer ends the program first";
  const auto early = [] { return rings_right(Mistake::kReadsTooEarly); };
  EXPECT_EQ(wrong_of_ten(Order::kAscending, early), 10);
  EXPECT_EQ(wrong_of_ten(Order::kDescending, early), 10);
  EXPECT_EQ(wrong_of_ten(Order::kRandom, early), 10);
  EXPECT_EQ(wrong_of_ten(Order::kPriority, early), 10);
  const auto reuse = [] { return rings_right(Mistake::kReusesTooEarly); };
  EXPECT_EQ(wrong_of_ten(Order::kPriority, reuse), 10);
  const auto warp = [] { return warp_rings_right(Mistake::kNoSyncWarp); };
  EXPECT_EQ(wrong_of_ten(Order::kAscending, warp), 10);
  EXPECT_EQ(wrong_of_ten(Order::kPriority, warp), 10);
  EXPECT_EQ(wrong_of_ten(Order::kAscending, [] { return streams_right(false); }), 10);
  EXPECT_EQ(wrong_of_ten(Order::kAscending, [] { return pinned_copy_right(false); }), 10);
}

TEST_F(Emulation, AddressSanitizerFindsWhatLeavesItsMemory) {
  if (!kAddress) GTEST_SKIP() << "a program without AddressSanitizer";
  EXPECT_DEATH(copy_right(Mistake::kReadsPastTheEnd), "heap-buffer-overflow");
  EXPECT_DEATH(rings_right(Mistake::kSharedPastTheEnd), "out of bounds|use-after-poison");
  EXPECT_DEATH(copy_right(Mistake::kMisaligned), "misaligned address");
  const Elements<float> x(counting(4));
  EXPECT_DEATH(std::printf("%f\n", static_cast<double>(x.data[1])), "use-after-poison");
}

TEST_F(Emulation, ThreadSanitizerFindsEveryRace) {
  if (!kThread) GTEST_SKIP() << "a program without ThreadSanitizer";
  EXPECT_DEATH(rings_right(Mistake::kReadsTooEarly), "data race");
  EXPECT_DEATH(rings_right(Mistake::kReusesTooEarly), "data race");
  EXPECT_DEATH(warp_rings_right(Mistake::kNoSyncWarp), "data race");
  EXPECT_DEATH(count_right(Mistake::kBlocksRace), "data race");
  EXPECT_DEATH(streams_right(false), "data race");
  EXPECT_DEATH(pinned_copy_right(false), "data race");
}

}  // namespace
}  // namespace switchyard::planted
