#include "cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "collectives/groups.h"
#include "tensor/tensor.h"

namespace switchyard {
namespace {

constexpr DType kEveryDType[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16,
                                 DType::kInt32,   DType::kInt64,   DType::kUint8};

InlineStream stream;  // stateless

// Any number that tells rank and element apart; floats of varied size, so that the order of a sum
// shows in its bits.
template <typename T>
T value_at(int rank, int64_t i) {
  const auto mixed =
      static_cast<uint32_t>((static_cast<uint64_t>(i) * 2654435761u) ^ (rank * 40503u)) *
      2246822519u;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(mixed) - (int64_t{1} << 31);
  } else {
    return static_cast<T>((static_cast<double>(mixed) / 4294967296.0 - 0.5) *
                          std::pow(10.0, static_cast<int>(mixed % 7) - 3));
  }
}

template <typename T>
Tensor values_of_rank(int rank, int64_t count) {
  Tensor x(DTypeOf<T>::value, {count});
  for (int64_t i = 0; i < count; ++i) x.template data<T>()[i] = value_at<T>(rank, i);
  return x;
}

template <typename T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <typename T>
T sum_at(int ranks, int64_t i) {
  T sum = value_at<T>(0, i);
  for (int r = 1; r < ranks; ++r) sum += value_at<T>(r, i);
  return sum;
}

// A byte pattern for all-dtype tests: byte `at` of row `row` on its way between two ranks.
uint8_t byte_at(int from, int to, int64_t row, int64_t at) {
  return static_cast<uint8_t>(from * 101 + to * 37 + row * 11 + at * 3 + 5);
}

uint8_t* bytes_of(TensorView x) { return static_cast<uint8_t*>(x.raw()); }

void fill_rows(TensorView x, int64_t first_row, int64_t rows, int from, int to) {
  if (rows == 0) return;
  const int64_t row_bytes = static_cast<int64_t>(x.size_bytes()) / x.shape()[0];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t b = 0; b < row_bytes; ++b) {
      bytes_of(x)[(first_row + row) * row_bytes + b] = byte_at(from, to, row, b);
    }
  }
}

int64_t wrong_bytes(TensorView x, int64_t first_row, int64_t rows, int from, int to) {
  if (rows == 0) return 0;
  const int64_t row_bytes = static_cast<int64_t>(x.size_bytes()) / x.shape()[0];
  int64_t wrong = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t b = 0; b < row_bytes; ++b) {
      wrong += bytes_of(x)[(first_row + row) * row_bytes + b] != byte_at(from, to, row, b);
    }
  }
  return wrong;
}

int64_t total(const std::vector<int64_t>& counts) {
  int64_t sum = 0;
  for (int64_t count : counts) sum += count;
  return sum;
}

void ranks_are_numbered(Collectives& world) {
  ASSERT_GE(world.rank(), 0);
  ASSERT_LT(world.rank(), world.size());
  Tensor mine(DType::kInt64, {1}), all(DType::kInt64, {world.size()});
  mine.data<int64_t>()[0] = world.rank();
  world.all_gather(stream, mine, std::vector<int64_t>(world.size(), 1), all)->wait();
  for (int r = 0; r < world.size(); ++r) EXPECT_EQ(all.data<int64_t>()[r], r);
}

template <typename T>
void expect_sums(Collectives& world, int64_t count) {
  Tensor x = values_of_rank<T>(world.rank(), count);
  world.all_reduce(stream, x, ReduceOp::kSum)->wait();
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    wrong += !same_bits(x.data<T>()[i], sum_at<T>(world.size(), i));
  }
  EXPECT_EQ(wrong, 0) << "of " << count << " " << name_of(x.dtype()) << ", rank " << world.rank();
}

void all_reduce_sums_in_rank_order(Collectives& world) {
  for (int64_t count : {0, 1, 2, 3, 7, 1000, 2049, 100003}) {
    expect_sums<float>(world, count);
    expect_sums<double>(world, count);
    expect_sums<int64_t>(world, count);
  }
}

template <typename T>
void expect_maxima(Collectives& world, int64_t count) {
  Tensor x = values_of_rank<T>(world.rank(), count);
  world.all_reduce(stream, x, ReduceOp::kMax)->wait();
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    T largest = value_at<T>(0, i);
    for (int r = 1; r < world.size(); ++r) largest = std::max(largest, value_at<T>(r, i));
    wrong += !same_bits(x.data<T>()[i], largest);
  }
  EXPECT_EQ(wrong, 0) << "of " << count << " " << name_of(x.dtype()) << ", rank " << world.rank();
}

void all_reduce_takes_maxima(Collectives& world) {
  for (int64_t count : {1, 5, 5000}) {
    expect_maxima<float>(world, count);
    expect_maxima<double>(world, count);
    expect_maxima<int64_t>(world, count);
  }
}

void maximum_carries_nan_from_any_rank(Collectives& world) {
  for (int bad = 0; bad < world.size(); ++bad) {
    Tensor x(DType::kFloat32, {3});
    x.data<float>()[0] = world.rank() == bad ? NAN : 1.0f;
    x.data<float>()[1] = world.rank() == bad ? -INFINITY : 2.0f;
    x.data<float>()[2] = world.rank() == bad ? 0.0f : -0.0f;  // equal: the bits must agree still
    world.all_reduce(stream, x, ReduceOp::kMax)->wait();
    EXPECT_TRUE(std::isnan(x.data<float>()[0])) << "from rank " << bad;
    EXPECT_EQ(x.data<float>()[1], world.size() == 1 ? -INFINITY : 2.0f);
    Tensor all(DType::kFloat32, {3 * world.size()});
    world.all_gather(stream, x, std::vector<int64_t>(world.size(), 3), all)->wait();
    for (int r = 0; r < world.size(); ++r) {
      EXPECT_EQ(std::memcmp(all.data<float>() + 3 * r, x.data<float>(), 3 * sizeof(float)), 0);
    }
  }
}

void all_reduce_takes_any_shape(Collectives& world) {
  Tensor scalar(DType::kFloat64, {}), cube(DType::kInt64, {2, 3, 4});
  scalar.data<double>()[0] = 1.5;
  std::fill_n(cube.data<int64_t>(), 24, int64_t{1} << 40);
  world.all_reduce(stream, scalar, ReduceOp::kSum)->wait();
  world.all_reduce(stream, cube, ReduceOp::kSum)->wait();
  EXPECT_EQ(scalar.data<double>()[0], 1.5 * world.size());
  for (int i = 0; i < 24; ++i)
    EXPECT_EQ(cube.data<int64_t>()[i], world.size() * (int64_t{1} << 40));
}

// Row counts by rank: ragged, with ranks that have none, and once nothing at all.
std::vector<std::vector<int64_t>> ragged_counts(int ranks) {
  std::vector<int64_t> ragged, last_only(ranks, 0), none(ranks, 0), large;
  for (int r = 0; r < ranks; ++r) {
    ragged.push_back((r * 3 + 2) % 4);
    large.push_back(r % 3 == 1 ? 0 : 3000 + 1000 * r);
  }
  last_only.back() = 5;
  return {ragged, last_only, none, large};
}

template <typename T>
void expect_scattered(Collectives& world, const std::vector<int64_t>& parts, bool in_place) {
  constexpr int64_t kWidth = 3;
  const int64_t rows = total(parts), own = parts[world.rank()];
  int64_t first = 0;
  for (int r = 0; r < world.rank(); ++r) first += parts[r];
  Tensor x = values_of_rank<T>(world.rank(), rows * kWidth);
  const TensorView as_rows = x.view().reshape({rows, kWidth});
  Tensor separate(x.dtype(), {own, kWidth});
  const TensorView part = in_place ? as_rows.rows(first, first + own) : separate.view();
  world.reduce_scatter(stream, as_rows, parts, part)->wait();
  int64_t wrong = 0;
  for (int64_t i = 0; i < own * kWidth; ++i) {
    wrong += !same_bits(part.data<T>()[i], sum_at<T>(world.size(), first * kWidth + i));
  }
  EXPECT_EQ(wrong, 0) << name_of(x.dtype()) << ", rank " << world.rank();
}

void reduce_scatter_sums_ragged_parts(Collectives& world) {
  for (const auto& parts : ragged_counts(world.size())) {
    for (bool in_place : {false, true}) {
      expect_scattered<float>(world, parts, in_place);
      expect_scattered<double>(world, parts, in_place);
      expect_scattered<int64_t>(world, parts, in_place);
    }
  }
}

void all_gather_joins_ragged_parts(Collectives& world) {
  for (const auto& parts : ragged_counts(world.size())) {
    for (DType dtype : kEveryDType) {
      const int64_t own = parts[world.rank()];
      Tensor rows(dtype, {own, 3}), gathered(dtype, {total(parts), 3});
      fill_rows(rows, 0, own, world.rank(), 0);
      world.all_gather(stream, rows, parts, gathered)->wait();
      int64_t first = 0, wrong = 0;
      for (int r = 0; r < world.size(); ++r) {
        wrong += wrong_bytes(gathered, first, parts[r], r, 0);
        first += parts[r];
      }
      EXPECT_EQ(wrong, 0) << name_of(dtype) << ", rank " << world.rank();
    }
  }
}

void all_gather_works_in_place(Collectives& world) {
  for (const auto& parts : ragged_counts(world.size())) {
    Tensor gathered(DType::kBFloat16, {total(parts), 5});
    std::memset(gathered.view().raw(), 0xee, gathered.size_bytes());
    int64_t first = 0;
    for (int r = 0; r < world.rank(); ++r) first += parts[r];
    const TensorView own = gathered.view().rows(first, first + parts[world.rank()]);
    fill_rows(own, 0, parts[world.rank()], world.rank(), 0);
    world.all_gather(stream, own, parts, gathered)->wait();
    int64_t at = 0, wrong = 0;
    for (int r = 0; r < world.size(); ++r) {
      wrong += wrong_bytes(gathered, at, parts[r], r, 0);
      at += parts[r];
    }
    EXPECT_EQ(wrong, 0);
  }
}

using CountOf = int64_t (*)(int from, int to);

void expect_exchanged(Collectives& world, DType dtype, CountOf count, int64_t width) {
  const int me = world.rank();
  std::vector<int64_t> send_rows, recv_rows;
  for (int r = 0; r < world.size(); ++r) {
    send_rows.push_back(count(me, r));
    recv_rows.push_back(count(r, me));
  }
  Tensor send(dtype, {total(send_rows), width}), recv(dtype, {total(recv_rows), width});
  int64_t first = 0;
  for (int r = 0; r < world.size(); ++r) {
    fill_rows(send, first, send_rows[r], me, r);
    first += send_rows[r];
  }
  world.all_to_all(stream, send, send_rows, recv, recv_rows)->wait();
  int64_t wrong = 0;
  first = 0;
  for (int r = 0; r < world.size(); ++r) {
    wrong += wrong_bytes(recv, first, recv_rows[r], r, me);
    first += recv_rows[r];
  }
  EXPECT_EQ(wrong, 0) << name_of(dtype) << ", rank " << me;
}

void all_to_all_exchanges_ragged_rows(Collectives& world) {
  for (DType dtype : kEveryDType) {
    expect_exchanged(
        world, dtype, [](int from, int to) -> int64_t { return (from * 2 + to * 3) % 5; }, 3);
  }
}

void all_to_all_with_ranks_that_have_nothing(Collectives& world) {
  const CountOf counts[] = {
      [](int, int) -> int64_t { return 0; },                       // nobody sends
      [](int, int to) -> int64_t { return to == 0 ? 4 : 0; },      // all to one
      [](int from, int) -> int64_t { return from == 0 ? 4 : 0; },  // one to all
      [](int from, int to) -> int64_t { return from == to ? 4 : 0; },
      [](int from, int to) -> int64_t { return from != to ? 4 : 0; },
  };
  for (CountOf count : counts) {
    expect_exchanged(world, DType::kFloat32, count, 2);
    expect_exchanged(world, DType::kFloat32, count, 0);
  }
}

void large_messages_arrive_whole(Collectives& world) {
  expect_exchanged(
      world, DType::kFloat32, [](int from, int to) -> int64_t { return 900 + 7 * from + to; }, 129);
  expect_sums<float>(world, 700001);
  std::vector<int64_t> parts(world.size(), 40000);
  Tensor copied(DType::kInt32, {30011, 3});
  fill_rows(copied, 0, 30011, world.rank(), 2);
  world.broadcast(stream, copied, world.size() - 1)->wait();
  EXPECT_EQ(wrong_bytes(copied, 0, 30011, world.size() - 1, 2), 0);
  expect_scattered<float>(world, parts, true);
}

void broadcast_copies_the_root(Collectives& world) {
  for (int root = 0; root < world.size(); ++root) {
    for (DType dtype : kEveryDType) {
      Tensor x(dtype, {7, 3}), nothing(dtype, {0, 3});
      fill_rows(x, 0, 7, world.rank(), 1);
      world.broadcast(stream, x, root)->wait();
      world.broadcast(stream, nothing, root)->wait();
      EXPECT_EQ(wrong_bytes(x, 0, 7, root, 1), 0);
    }
  }
}

int64_t sum_of(Collectives& group, int64_t number) {
  Tensor x(DType::kInt64, {1});
  x.data<int64_t>()[0] = number;
  group.all_reduce(stream, x, ReduceOp::kSum)->wait();
  return x.data<int64_t>()[0];
}

void groups_work_side_by_side(Collectives& world) {
  const int me = world.rank(), n = world.size();
  const auto parity = world.split(me % 2), halves = world.split(me < n / 2 ? 0 : 1);
  const auto alone = world.split(me);
  EXPECT_EQ(alone->size(), 1);
  EXPECT_EQ(parity->rank(), me / 2);
  EXPECT_EQ(parity->size(), (n + 1 - me % 2) / 2);
  EXPECT_EQ(parity->name(), world.name());
  // One group does more than the other meanwhile.
  int64_t same_parity = 0, same_half = 0;
  for (int r = 0; r < n; ++r) {
    same_parity += r % 2 == me % 2 ? r + 1 : 0;
    same_half += (r < n / 2) == (me < n / 2) ? r + 1 : 0;
  }
  for (int i = 0; i < (me % 2 == 0 ? 50 : 3); ++i) {
    EXPECT_EQ(sum_of(*parity, me + 1), same_parity);
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(sum_of(*halves, me + 1), same_half);
    EXPECT_EQ(sum_of(*alone, me), me);
    EXPECT_EQ(sum_of(world, 1), n);
  }
  const auto quarter = parity->split(parity->rank() % 2);  // a group of a group
  EXPECT_EQ(sum_of(*quarter, 1), quarter->size());
  expect_exchanged(
      *parity, DType::kBFloat16, [](int from, int to) -> int64_t { return from + to; }, 4);
  expect_sums<float>(*halves, 5000);
}

void layouts_make_expert_and_replica_groups(Collectives& world) {
  for (int size = 1; size <= world.size(); ++size) {
    if (world.size() % size != 0) continue;
    const Groups groups = make_groups(world, size);
    const int me = world.rank();
    EXPECT_EQ(groups.world, &world);
    EXPECT_EQ(groups.expert->size(), size);
    EXPECT_EQ(groups.expert->rank(), me % size);
    EXPECT_EQ(groups.replica->size(), world.size() / size);
    EXPECT_EQ(groups.replica->rank(), me / size);
    int64_t group_sum = 0, replica_sum = 0;
    for (int r = 0; r < world.size(); ++r) {
      group_sum += r / size == me / size ? 1 << r : 0;
      replica_sum += r % size == me % size ? 1 << r : 0;
    }
    EXPECT_EQ(sum_of(*groups.expert, 1 << me), group_sum);
    EXPECT_EQ(sum_of(*groups.replica, 1 << me), replica_sum);
  }
}

void layouts_make_groups_of_slices(Collectives& world) {
  const int me = world.rank();
  for (int size = 1; size <= world.size(); ++size) {
    for (int slices = 1; slices <= size; ++slices) {
      if (world.size() % size != 0 || size % slices != 0) continue;
      const Groups groups = make_groups(world, size, slices);
      EXPECT_EQ(groups.expert_ranks(), size);
      EXPECT_EQ(groups.expert->rank(), me % size / slices);
      EXPECT_EQ(groups.tensor->size(), slices);
      EXPECT_EQ(groups.tensor->rank(), me % slices);
      int64_t expert_sum = 0, tensor_sum = 0, replica_sum = 0;
      for (int r = 0; r < world.size(); ++r) {
        expert_sum += r / size == me / size && r % slices == me % slices ? 1 << r : 0;
        tensor_sum += r / slices == me / slices ? 1 << r : 0;
        replica_sum += r % size == me % size ? 1 << r : 0;
      }
      EXPECT_EQ(sum_of(*groups.expert, 1 << me), expert_sum);
      EXPECT_EQ(sum_of(*groups.tensor, 1 << me), tensor_sum);
      EXPECT_EQ(sum_of(*groups.replica, 1 << me), replica_sum);
      const std::string text = std::to_string(world.size()) + "x" + std::to_string(size);
      EXPECT_EQ(groups.layout(), slices == 1 ? text : text + "x" + std::to_string(slices));
    }
  }
}

void many_operations_are_under_way(Collectives& world) {
  constexpr int kRounds = 20;
  const auto pairs = world.split(world.rank() / 2);
  const std::vector<int64_t> ones(world.size(), 1);
  std::vector<Tensor> sums, sent, received, pair_sums;
  std::vector<std::unique_ptr<Work>> works;
  for (int i = 0; i < kRounds; ++i) {
    sums.emplace_back(DType::kInt64, Shape{1});
    pair_sums.emplace_back(DType::kInt64, Shape{1});
    sent.emplace_back(DType::kInt64, Shape{world.size()});
    received.emplace_back(DType::kInt64, Shape{world.size()});
    sums[i].data<int64_t>()[0] = i;
    pair_sums[i].data<int64_t>()[0] = 100 * i;
    for (int r = 0; r < world.size(); ++r) {
      sent[i].data<int64_t>()[r] = world.rank() * 1000000 + r * 1000 + i;
    }
    works.push_back(world.all_reduce(stream, sums[i], ReduceOp::kSum));
    works.push_back(world.all_to_all(stream, sent[i], ones, received[i], ones));
    works.push_back(pairs->all_reduce(stream, pair_sums[i], ReduceOp::kSum));
  }
  while (!works.empty()) {  // ends are asked for in the other order
    works.back()->wait();
    works.pop_back();
  }
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(sums[i].data<int64_t>()[0], i * world.size());
    EXPECT_EQ(pair_sums[i].data<int64_t>()[0], 100 * i * pairs->size());
    for (int r = 0; r < world.size(); ++r) {
      EXPECT_EQ(received[i].data<int64_t>()[r], r * 1000000 + world.rank() * 1000 + i);
    }
  }
}

void barriers_pass(Collectives& world) {
  for (int i = 0; i < 10; ++i) world.barrier();
}

void wrong_arguments_are_refused(Collectives& world) {
  const auto n = static_cast<size_t>(world.size());
  Tensor half(DType::kBFloat16, {4}), x(DType::kFloat32, {world.size(), 2});
  Tensor narrow(DType::kFloat32, {world.size(), 1}), ints(DType::kInt32, {world.size(), 2});
  const std::vector<int64_t> ones(n, 1), twos(n, 2), too_many(n + 1, 1);
  std::vector<int64_t> negative(n, 1);
  negative[0] = -1;
  EXPECT_THROW(world.all_reduce(stream, half, ReduceOp::kSum), Error);
  EXPECT_THROW(world.all_reduce(stream, ints, ReduceOp::kMax), Error);
  EXPECT_THROW(world.all_to_all(stream, x, ones, narrow, ones), Error);
  EXPECT_THROW(world.all_to_all(stream, x, ones, ints, ones), Error);
  EXPECT_THROW(world.all_to_all(stream, x, twos, x, ones), Error);
  EXPECT_THROW(world.all_to_all(stream, x, too_many, x, ones), Error);
  EXPECT_THROW(world.all_to_all(stream, x, negative, x, negative), Error);
  EXPECT_THROW(world.all_gather(stream, x, twos, x), Error);
  EXPECT_THROW(world.reduce_scatter(stream, x, twos, x), Error);
  EXPECT_THROW(world.broadcast(stream, x, world.size()), Error);
  EXPECT_THROW(world.broadcast(stream, x, -1), Error);
  EXPECT_THROW(world.split(-1), Error);
  EXPECT_EQ(sum_of(world, 1), world.size());  // and the group is usable still
}

}  // namespace

const std::vector<CollectivesCase>& collectives_cases() {
#define CASE(name) \
  CollectivesCase { #name, name }
  static const std::vector<CollectivesCase> cases = {
      CASE(ranks_are_numbered),
      CASE(all_reduce_sums_in_rank_order),
      CASE(all_reduce_takes_maxima),
      CASE(maximum_carries_nan_from_any_rank),
      CASE(all_reduce_takes_any_shape),
      CASE(reduce_scatter_sums_ragged_parts),
      CASE(all_gather_joins_ragged_parts),
      CASE(all_gather_works_in_place),
      CASE(all_to_all_exchanges_ragged_rows),
      CASE(all_to_all_with_ranks_that_have_nothing),
      CASE(large_messages_arrive_whole),
      CASE(broadcast_copies_the_root),
      CASE(groups_work_side_by_side),
      CASE(layouts_make_expert_and_replica_groups),
      CASE(layouts_make_groups_of_slices),
      CASE(many_operations_are_under_way),
      CASE(barriers_pass),
      CASE(wrong_arguments_are_refused),
  };
#undef CASE
  return cases;
}

}  // namespace switchyard
