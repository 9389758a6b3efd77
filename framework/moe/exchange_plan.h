// What the ranks of an expert group agree on for one layer: how many rows each sends to each
// expert, and in which parts they travel. A part is one chunk of one round. It holds, of the rows
// of every expert in the order of the global batch, those between two cuts; every rank computes the
// same cuts from the same counts.
#pragma once

#include <optional>

#include "moe/dispatch.h"
#include "ops/grouped_mat_mul.h"

namespace switchyard {

// In how many parts rows travel. They are cut only between blocks of kOrderedBlockRows rows of an
// (expert, leaf) run: ordered weight gradients have one partial sum for each.
struct ExchangeSchedule {
  // Rows that a rank takes in one round at most; absent: everything in one round.
  std::optional<int64_t> max_rows_per_round;
  int64_t chunks = 1;  // of a round
};

// Kept choices of each leaf for each expert.
struct ExchangeCounts {
  int64_t experts = 0;
  ReusedVector<int64_t> first_leaf;  // [ranks + 1]: the leaves of rank r begin at first_leaf[r]
  ReusedVector<int64_t> rows;        // [leaves of all ranks, E]
  int64_t most_rows = 0;             // that these can be in all; lists are made for so many

  int ranks() const { return static_cast<int>(first_leaf.size()) - 1; }
  ExpertRange experts_of(int rank) const;
  // Calls visit(from_rank, rows) for each (expert, leaf) run that `rank` receives, in the compact
  // order (see RaggedRows): by expert, then by leaf.
  template <typename Visit>
  void each_run(int rank, Visit visit) const;
};

struct ExchangePlan {
  ExchangeCounts counts;
  int here = 0;  // this rank, of the expert group
  int64_t rounds = 1, chunks = 1;
  // Of the rows that this rank receives, in compact order, those before each part; [parts + 1].
  ReusedVector<int64_t> cuts;
  ReusedVector<int64_t> rows;  // [parts, from, to]: of all ranks' parts, see Traffic
  int64_t sent = 0;            // by this rank, in all parts
  // Rows stand in sending order: by (expert, token, choice).
  TensorView source;    // int32 [T * K]: flat choice of each sent row
  TensorView position;  // int32 [T, K]: sent row of each choice, or -1

  int64_t parts() const { return rounds * chunks; }
  int64_t choices() const { return position.shape()[1]; }
  // Of this rank, in all parts.
  int64_t received() const { return cuts.back(); }
  int64_t& rows_at(int64_t part, int from, int to) {
    return rows[static_cast<size_t>((part * counts.ranks() + from) * counts.ranks() + to)];
  }
  int64_t rows_at(int64_t part, int from, int to) const {
    return rows[static_cast<size_t>((part * counts.ranks() + from) * counts.ranks() + to)];
  }
  Traffic traffic(int64_t part) const;
};

// The plan without its tensors.
//   least_rounds  some may then be empty
ExchangePlan plan_exchange(ExchangeCounts counts, int here, const ExchangeSchedule& schedule,
                           int64_t least_rounds = 1);

// What travels at once, as this rank sees it.
struct ExchangePart {
  struct Rows {
    int64_t begin = 0, end = 0;
  };

  int64_t number = 0;
  ReusedVector<Rows> sending;  // of all sent rows, those of this part, by receiving rank
  int64_t sent = 0, received = 0;
  ReusedVector<int64_t> offsets;       // [L + 1], see RaggedRows
  ReusedVector<int64_t> leaf_offsets;  // boundaries of every (expert, leaf) run
  TensorView index;                    // int32 [received], see RaggedRows
  TensorView keys;  // int64 [received], compact order: see random_row; absent unless asked for

  RaggedRows ragged() const;
};

// Without keys; the index is in `arena`.
ExchangePart make_part(ExecContext& ctx, const ExchangePlan& plan, int64_t number, Arena& arena);

}  // namespace switchyard
