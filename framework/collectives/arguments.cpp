#include "collectives/arguments.h"

#include <numeric>

#include "base/check.h"

namespace switchyard {

int64_t total_rows(std::span<const int64_t> rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

int64_t rows_before(std::span<const int64_t> rows, int rank) {
  return total_rows(rows.first(static_cast<size_t>(rank)));
}

int64_t row_bytes(TensorView x) {
  int64_t elements = 1;
  for (int i = 1; i < x.shape().rank(); ++i) elements *= x.shape()[i];
  return elements * static_cast<int64_t>(size_of(x.dtype()));
}

static void check_reducible(TensorView x) {
  SWITCHYARD_CHECK(
      x.dtype() == DType::kFloat32 || x.dtype() == DType::kFloat64 || x.dtype() == DType::kInt64,
      name_of(x.dtype()), " is never reduced");
}

static void check_counts(std::span<const int64_t> rows, int size) {
  SWITCHYARD_CHECK(rows.size() == static_cast<size_t>(size), rows.size(), " counts for ", size,
                   " ranks");
  for (int64_t count : rows) SWITCHYARD_CHECK(count >= 0, "a count of ", count);
}

static void check_rows(const char* name, TensorView x, int64_t rows) {
  SWITCHYARD_CHECK(x.shape().rank() >= 1 && x.shape()[0] == rows, name, " is ", x.shape(),
                   ", the counts say ", rows, " rows");
}

static void check_same_rows(TensorView a, TensorView b) {
  bool same = a.dtype() == b.dtype() && a.shape().rank() == b.shape().rank();
  for (int i = 1; same && i < a.shape().rank(); ++i) same = a.shape()[i] == b.shape()[i];
  SWITCHYARD_CHECK(same, "rows of ", name_of(a.dtype()), a.shape(), " and of ", name_of(b.dtype()),
                   b.shape());
}

void check_all_reduce(TensorView x) { check_reducible(x); }

void check_reduce_scatter(TensorView x, std::span<const int64_t> part_rows, TensorView part,
                          int rank, int size) {
  check_reducible(x);
  check_counts(part_rows, size);
  check_rows("x", x, total_rows(part_rows));
  check_rows("part", part, part_rows[static_cast<size_t>(rank)]);
  check_same_rows(x, part);
}

void check_all_gather(TensorView rows, std::span<const int64_t> part_rows, TensorView gathered,
                      int rank, int size) {
  check_counts(part_rows, size);
  check_rows("rows", rows, part_rows[static_cast<size_t>(rank)]);
  check_rows("gathered", gathered, total_rows(part_rows));
  check_same_rows(rows, gathered);
}

void check_all_to_all(TensorView send, std::span<const int64_t> send_rows, TensorView recv,
                      std::span<const int64_t> recv_rows, int rank, int size) {
  check_counts(send_rows, size);
  check_counts(recv_rows, size);
  check_rows("send", send, total_rows(send_rows));
  check_rows("recv", recv, total_rows(recv_rows));
  check_same_rows(send, recv);
  const int64_t kept = send_rows[static_cast<size_t>(rank)];
  SWITCHYARD_CHECK(kept == recv_rows[static_cast<size_t>(rank)], "a rank keeps ", kept,
                   " rows and takes ", recv_rows[static_cast<size_t>(rank)], " from itself");
}

void check_root(int root, int size) {
  SWITCHYARD_CHECK(root >= 0 && root < size, "root ", root, " of ", size, " ranks");
}

void check_color(int color) { SWITCHYARD_CHECK(color >= 0, "a colour of ", color); }

}  // namespace switchyard
