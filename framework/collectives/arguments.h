// What all host collectives check and compute about their arguments, and the Work of an operation
// that ran inline. Not for callers of Collectives.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/reused_memory.h"
#include "collectives/collectives.h"

namespace switchyard {

// The operation ended inside the call that started it.
class FinishedWork : public Work, public Reused {
 public:
  static std::unique_ptr<Work> make() { return std::make_unique<FinishedWork>(); }
  void wait() override {}
};

int64_t total_rows(std::span<const int64_t> rows);
// Rows before those of `rank`.
int64_t rows_before(std::span<const int64_t> rows, int rank);
// Bytes of one entry of the outermost dimension.
int64_t row_bytes(TensorView x);

// Each throws Error(kDefect) when the arguments of a rank do not fit together.
void check_all_reduce(TensorView x);
void check_reduce_scatter(TensorView x, std::span<const int64_t> part_rows, TensorView part,
                          int rank, int size);
void check_all_gather(TensorView rows, std::span<const int64_t> part_rows, TensorView gathered,
                      int rank, int size);
void check_all_to_all(TensorView send, std::span<const int64_t> send_rows, TensorView recv,
                      std::span<const int64_t> recv_rows, int rank, int size);
void check_root(int root, int size);
void check_color(int color);

}  // namespace switchyard
