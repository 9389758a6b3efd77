#include "moe/exchange_plan.h"

#include <algorithm>

#include "ops/kernels.h"

namespace switchyard {

ExpertRange ExchangeCounts::experts_of(int rank) const {
  return experts_of_rank(experts, ranks(), rank);
}

template <typename Visit>
void ExchangeCounts::each_run(int rank, Visit visit) const {
  const ExpertRange range = experts_of(rank);
  for (int64_t e = range.first; e < range.first + range.count; ++e) {
    for (int from = 0; from < ranks(); ++from) {
      const auto at = static_cast<size_t>(from);
      for (int64_t leaf = first_leaf[at]; leaf < first_leaf[at + 1]; ++leaf) {
        visit(e - range.first, from, rows[static_cast<size_t>(leaf * experts + e)]);
      }
    }
  }
}

namespace {

size_t most_runs(const ExchangeCounts& counts, int rank) {
  return static_cast<size_t>(counts.experts_of(rank).count * counts.first_leaf.back());
}

// Rows of two rounds one after the other are more than a round can take.
size_t most_rounds(const ExchangeCounts& counts, const ExchangeSchedule& schedule) {
  const auto most = schedule.max_rows_per_round;
  return most ? static_cast<size_t>(2 * counts.most_rows / *most + 1) : 1;
}

// Where the rows that `rank` receives may be cut: the ends of all blocks, in compact order.
ReusedVector<int64_t> block_ends(const ExchangeCounts& counts, int rank) {
  ReusedVector<int64_t> ends;
  ends.reserve(most_runs(counts, rank) + static_cast<size_t>(counts.most_rows / kOrderedBlockRows));
  int64_t end = 0;
  counts.each_run(rank, [&](int64_t, int, int64_t run) {
    for (int64_t done = 0; done < run; done += kOrderedBlockRows) {
      end += std::min(kOrderedBlockRows, run - done);
      ends.push_back(end);
    }
  });
  return ends;
}

// Rows before each round, filled up one after the other.
ReusedVector<int64_t> round_cuts(const ReusedVector<int64_t>& ends, std::optional<int64_t> most,
                                 size_t room) {
  ReusedVector<int64_t> cuts;
  cuts.reserve(room);
  cuts.push_back(0);
  int64_t last = 0;
  for (const int64_t end : ends) {
    if (most && end - cuts.back() > *most) cuts.push_back(last);
    last = end;
  }
  if (last > cuts.back()) cuts.push_back(last);
  return cuts;
}

// Appends where the chunks of the rows begin..end-1 end: at the first block end from their even
// share on.
void cut_chunks(const ReusedVector<int64_t>& ends, int64_t begin, int64_t end, int64_t chunks,
                ReusedVector<int64_t>& cuts) {
  for (int64_t chunk = 1; chunk <= chunks; ++chunk) {
    const int64_t share = begin + (end - begin) * chunk / chunks;
    const auto at = std::lower_bound(ends.begin(), ends.end(), share);
    cuts.push_back(at == ends.end() ? end : std::min(*at, end));
  }
}

}  // namespace

ExchangePlan plan_exchange(ExchangeCounts counts, int here, const ExchangeSchedule& schedule,
                           int64_t least_rounds) {
  SWITCHYARD_CHECK(schedule.chunks >= 1, schedule.chunks, " chunks");
  SWITCHYARD_CHECK(
      !schedule.max_rows_per_round || *schedule.max_rows_per_round >= kOrderedBlockRows,
      "rounds of ", schedule.max_rows_per_round.value_or(0), " rows");
  ExchangePlan plan;
  plan.here = here;
  plan.rounds = least_rounds;
  plan.chunks = schedule.chunks;
  const int ranks = counts.ranks();
  const size_t round_room = most_rounds(counts, schedule) + 1;
  const size_t part_room = round_room * static_cast<size_t>(plan.chunks) + 1;
  ReusedVector<ReusedVector<int64_t>> ends, rounds;
  ends.reserve(static_cast<size_t>(ranks));
  rounds.reserve(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    ends.push_back(block_ends(counts, rank));
    rounds.push_back(round_cuts(ends.back(), schedule.max_rows_per_round, round_room));
    plan.rounds = std::max(plan.rounds, static_cast<int64_t>(rounds.back().size()) - 1);
  }
  plan.counts = std::move(counts);
  plan.rows.reserve(part_room * static_cast<size_t>(ranks) * static_cast<size_t>(ranks));
  plan.rows.assign(
      static_cast<size_t>(plan.parts()) * static_cast<size_t>(ranks) * static_cast<size_t>(ranks),
      0);
  for (int rank = 0; rank < ranks; ++rank) {
    const auto at = static_cast<size_t>(rank);
    rounds[at].resize(static_cast<size_t>(plan.rounds) + 1, rounds[at].back());
    ReusedVector<int64_t> cuts;
    cuts.reserve(part_room);
    cuts.push_back(0);
    for (size_t round = 0; round + 1 < rounds[at].size(); ++round) {
      cut_chunks(ends[at], rounds[at][round], rounds[at][round + 1], plan.chunks, cuts);
    }
    int64_t part = 0, next = 0;
    plan.counts.each_run(rank, [&](int64_t, int from, int64_t run) {
      while (run > 0) {
        while (cuts[static_cast<size_t>(part) + 1] <= next) ++part;
        const int64_t taken = std::min(run, cuts[static_cast<size_t>(part) + 1] - next);
        plan.rows_at(part, from, rank) += taken;
        next += taken;
        run -= taken;
      }
    });
    if (rank == here) plan.cuts = std::move(cuts);
  }
  for (int64_t part = 0; part < plan.parts(); ++part) {
    for (int to = 0; to < ranks; ++to) plan.sent += plan.rows_at(part, here, to);
  }
  return plan;
}

Traffic ExchangePlan::traffic(int64_t part) const {
  Traffic of_part(counts.ranks());
  const auto first = rows.begin() + part * std::ssize(of_part.rows);
  std::copy_n(first, of_part.rows.size(), of_part.rows.begin());
  return of_part;
}

RaggedRows ExchangePart::ragged() const {
  return {.offsets = offsets,
          .device_offsets = {},
          .index = index,
          .scale = {},
          .leaf_offsets = leaf_offsets};
}

namespace {

// Rows to one rank stand together in sending order, those of its parts one after the other.
void find_sent_rows(const ExchangePlan& plan, ExchangePart& part) {
  part.sending.reserve(static_cast<size_t>(plan.counts.ranks()));
  int64_t first = 0;
  for (int to = 0; to < plan.counts.ranks(); ++to) {
    int64_t all = 0;
    for (int64_t p = 0; p < plan.parts(); ++p) {
      const int64_t rows = plan.rows_at(p, plan.here, to);
      if (p == part.number && rows > 0) {
        const int64_t begin = first + all;
        if (!part.sending.empty() && part.sending.back().end == begin) {
          part.sending.back().end += rows;
        } else {
          part.sending.push_back({begin, begin + rows});
        }
        part.sent += rows;
      }
      all += rows;
    }
    first += all;
  }
}

}  // namespace

ExchangePart make_part(ExecContext& ctx, const ExchangePlan& plan, int64_t number, Arena& arena) {
  ExchangePart part;
  part.number = number;
  find_sent_rows(plan, part);

  const int64_t begin = plan.cuts[static_cast<size_t>(number)];
  const int64_t end = plan.cuts[static_cast<size_t>(number) + 1];
  part.received = end - begin;
  // Rows arrive by rank, each rank's by (expert, token, choice).
  ReusedVector<int64_t> next_of_rank;
  next_of_rank.reserve(static_cast<size_t>(plan.counts.ranks()));
  next_of_rank.push_back(0);
  for (int from = 0; from + 1 < plan.counts.ranks(); ++from) {
    next_of_rank.push_back(next_of_rank.back() + plan.rows_at(number, from, plan.here));
  }
  ReusedVector<int32_t> index;
  index.reserve(static_cast<size_t>(plan.counts.most_rows));
  part.leaf_offsets.reserve(most_runs(plan.counts, plan.here) + 1);
  part.leaf_offsets.push_back(0);
  part.offsets.assign(static_cast<size_t>(plan.counts.experts_of(plan.here).count) + 1, 0);
  int64_t run_begin = 0;
  plan.counts.each_run(plan.here, [&](int64_t expert, int from, int64_t run) {
    const int64_t first = std::max(run_begin, begin), last = std::min(run_begin + run, end);
    run_begin += run;
    if (last > first) {
      for (int64_t i = first; i < last; ++i) {
        index.push_back(static_cast<int32_t>(next_of_rank[static_cast<size_t>(from)]++));
      }
      part.leaf_offsets.push_back(static_cast<int64_t>(index.size()));
    }
    part.offsets[static_cast<size_t>(expert) + 1] = static_cast<int64_t>(index.size());
  });
  part.index = arena.allocate(DType::kInt32, {part.received});
  upload(ctx, std::span<const int32_t>(index), part.index);
  return part;
}

}  // namespace switchyard
