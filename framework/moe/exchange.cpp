#include "moe/exchange.h"

#include <algorithm>

#include "ops/host_values.h"

namespace switchyard {
namespace {

// What a rank says of itself before an exchange.
struct Header {
  int64_t rank;  // of the job
  int64_t layer, step, phase, part;
  int64_t number;  // rows to the rank that reads this
};
constexpr int64_t kHeaderNumbers = sizeof(Header) / sizeof(int64_t);

std::string text_of(ExchangePhase phase) {
  switch (phase) {
    case ExchangePhase::kCounts:
      return "counts";
    case ExchangePhase::kKeys:
      return "keys to experts";
    case ExchangePhase::kRows:
      return "rows to experts";
    case ExchangePhase::kResults:
      return "results to owners";
    case ExchangePhase::kKeysAgain:
      return "keys to experts again";
    case ExchangePhase::kRowsAgain:
      return "rows to experts again";
    case ExchangePhase::kGradients:
      return "gradients to experts";
    case ExchangePhase::kInputGradients:
      return "gradients to owners";
  }
  return "exchange " + std::to_string(static_cast<int64_t>(phase));
}

// "layer encoder.block.3, step 11, rows to experts, part 0"
std::string text_of(const Header& header) {
  const auto first_of_decoder = layer_id(StackKind::kDecoder, 0);
  const bool decodes = header.layer >= first_of_decoder;
  const int64_t block = header.layer - (decodes ? first_of_decoder : 0);
  return std::string("layer ") + (decodes ? "decoder" : "encoder") + ".block." +
         std::to_string(block) + ", step " + std::to_string(header.step) + ", " +
         text_of(static_cast<ExchangePhase>(header.phase)) + ", part " +
         std::to_string(header.part);
}

std::string text_with_rank(const Header& header) {
  return text_of(header) + ", rank " + std::to_string(header.rank);
}

Header header_of(const LayerContext& ctx, uint16_t layer, ExchangePhase phase, int64_t part) {
  return {.rank = ctx.groups.world->rank(),
          .layer = layer,
          .step = ctx.step,
          .phase = static_cast<int64_t>(phase),
          .part = part,
          .number = 0};
}

constexpr const char* kAdvice = "this is a defect of the program: please report it with the config";

// Rows of a part as one piece, where they stand.
bool in_one_piece(const ExchangePart& part) { return part.sending.size() == 1; }

TensorView piece_of(const ExchangePart& part, TensorView rows) {
  return rows.rows(part.sending[0].begin, part.sending[0].end);
}

}  // namespace

Exchange::Exchange(uint16_t layer, int64_t experts, Options options)
    : layer_(layer), experts_(experts), options_(std::move(options)) {
  if (!options_.dispatch) options_.dispatch = make_all_to_all_dispatch();
}

ReusedVector<int64_t> Exchange::meet(LayerContext& ctx, ExchangePhase phase, int64_t part,
                                     std::span<const int64_t> numbers) const {
  const ScratchScope scope(ctx.scratch);
  Collectives& group = *ctx.groups.expert;
  const int64_t ranks = group.size();
  const Header mine = header_of(ctx, layer_, phase, part);
  ReusedVector<int64_t> out;
  out.reserve(numbers.size() * kHeaderNumbers);
  for (const int64_t number : numbers) {
    for (const int64_t field : {mine.rank, mine.layer, mine.step, mine.phase, mine.part, number}) {
      out.push_back(field);
    }
  }
  const TensorView send = ctx.scratch.allocate(DType::kInt64, {ranks, kHeaderNumbers});
  const TensorView received = ctx.scratch.allocate(DType::kInt64, {ranks, kHeaderNumbers});
  upload(ctx, std::span<const int64_t>(out), send);
  const ReusedVector<int64_t> one_each(static_cast<size_t>(ranks), 1);
  group.all_to_all(ctx.stream, send, one_each, received, one_each)->wait();

  const auto in = host_values<int64_t>(ctx, received);
  ReusedVector<int64_t> told;
  told.reserve(static_cast<size_t>(ranks));
  for (size_t at = 0; at < in.size(); at += kHeaderNumbers) {
    const Header there{in[at], in[at + 1], in[at + 2], in[at + 3], in[at + 4], in[at + 5]};
    const bool together = there.layer == mine.layer && there.step == mine.step &&
                          there.phase == mine.phase && there.part == mine.part;
    if (!together) {
      throw RankError(
          "ranks are out of step: rank " + std::to_string(there.rank) + " is at " + text_of(there),
          text_with_rank(mine), kAdvice);
    }
    told.push_back(there.number);
  }
  return told;
}

int64_t Exchange::most_rounds(LayerContext& ctx, int64_t rounds) const {
  const ScratchScope scope(ctx.scratch);
  const TensorView most = ctx.scratch.allocate(DType::kInt64, {1});
  upload(ctx, std::span<const int64_t>(&rounds, 1), most);
  ctx.groups.tensor->all_reduce(ctx.stream, most, ReduceOp::kMax)->wait();
  return host_values<int64_t>(ctx, most).front();
}

ExchangePlan Exchange::agree(LayerContext& ctx, const TokenRows& rows, TensorView kept) const {
  Collectives& group = *ctx.groups.expert;
  ExchangeCounts counts{.experts = experts_};
  const ReusedVector<int64_t> mine(static_cast<size_t>(group.size()), rows.groups());
  const ReusedVector<int64_t> leaves = meet(ctx, ExchangePhase::kCounts, 0, mine);
  counts.first_leaf.reserve(leaves.size() + 1);
  counts.first_leaf.push_back(0);
  for (const int64_t of_rank : leaves) {
    counts.first_leaf.push_back(counts.first_leaf.back() + of_rank);
  }
  counts.most_rows = counts.first_leaf.back() * rows.group_tokens * kept.shape()[1];
  {
    const ScratchScope scope(ctx.scratch);
    const TensorView local = ctx.scratch.allocate(DType::kInt64, {rows.groups(), experts_});
    const TensorView gathered =
        ctx.scratch.allocate(DType::kInt64, {counts.first_leaf.back(), experts_});
    count_choices(ctx, kept, rows.group_offsets, local);
    group.all_gather(ctx.stream, local, leaves, gathered)->wait();
    counts.rows = host_values<int64_t>(ctx, gathered);
    // What a rank sends follows its own counts: all must have got the same.
    const auto own = host_values<int64_t>(ctx, local);
    const int64_t first = counts.first_leaf[static_cast<size_t>(group.rank())] * experts_;
    if (!std::equal(own.begin(), own.end(), counts.rows.begin() + first)) {
      throw RankError("the counts that a rank sent came back changed",
                      text_with_rank(header_of(ctx, layer_, ExchangePhase::kCounts, 0)), kAdvice);
    }
  }
  ExchangePlan plan = plan_exchange(std::move(counts), group.rank(), options_.schedule);
  if (options_.schedule.max_rows_per_round) {
    const int64_t rounds = most_rounds(ctx, plan.rounds);
    if (rounds > plan.rounds) {
      plan = plan_exchange(std::move(plan.counts), group.rank(), options_.schedule, rounds);
    }
  }
  plan.source = ctx.saved.allocate(DType::kInt32, {kept.elements()});
  plan.position = ctx.saved.allocate(DType::kInt32, kept.shape());
  order_choices(ctx, kept, experts_, plan.source, plan.position);
  return plan;
}

std::unique_ptr<Work> Exchange::move(LayerContext& ctx, ExchangePhase phase, int64_t part,
                                     const Traffic& traffic, TensorView send,
                                     TensorView received) const {
  const int here = ctx.groups.expert->rank();
  const ReusedVector<int64_t> told = meet(ctx, phase, part, traffic.sent_by(here));
  for (int from = 0; from < traffic.ranks; ++from) {
    const int64_t expected = traffic.at(from, here);
    const int64_t coming = told[static_cast<size_t>(from)];
    if (coming == expected) continue;
    throw RankError("ranks disagree on an exchange: rank " + std::to_string(from) +
                        " of the expert group sends " + std::to_string(coming) + " rows, rank " +
                        std::to_string(here) + " expects " + std::to_string(expected),
                    text_with_rank(header_of(ctx, layer_, phase, part)), kAdvice);
  }
  const bool converted =
      options_.wire_bfloat16 && send.dtype() != DType::kInt64 && send.dtype() != DType::kBFloat16;
  if (!converted) return options_.dispatch->move(ctx, traffic, send, received);
  const TensorView send_wire = ctx.scratch.allocate(DType::kBFloat16, send.shape());
  const TensorView received_wire = ctx.scratch.allocate(DType::kBFloat16, received.shape());
  copy(ctx, send, send_wire);
  return work_then(options_.dispatch->move(ctx, traffic, send_wire, received_wire),
                   [&ctx, received_wire, received] { copy(ctx, received_wire, received); });
}

std::unique_ptr<Work> Exchange::send_tokens(LayerContext& ctx, const ExchangePlan& plan,
                                            const ExchangePart& part, ExchangePhase phase,
                                            TensorView x, TensorView received) const {
  const TensorView send = ctx.scratch.allocate(x.dtype(), {part.sent, x.shape()[1]});
  int64_t next = 0;
  for (const auto& [begin, end] : part.sending) {
    gather_rows(ctx, x, plan.source.rows(begin, end), plan.choices(),
                send.rows(next, next + end - begin));
    next += end - begin;
  }
  return move(ctx, phase, part.number, plan.traffic(part.number), send, received);
}

std::unique_ptr<Work> Exchange::send_rows(LayerContext& ctx, const ExchangePlan& plan,
                                          const ExchangePart& part, ExchangePhase phase,
                                          TensorView rows, TensorView received) const {
  TensorView send;
  if (in_one_piece(part)) {
    send = piece_of(part, rows);
  } else {
    send = ctx.scratch.allocate(rows.dtype(), {part.sent, rows.shape()[1]});
    int64_t next = 0;
    for (const auto& [begin, end] : part.sending) {
      copy(ctx, rows.rows(begin, end), send.rows(next, next + end - begin));
      next += end - begin;
    }
  }
  return move(ctx, phase, part.number, plan.traffic(part.number), send, received);
}

std::unique_ptr<Work> Exchange::return_rows(LayerContext& ctx, const ExchangePlan& plan,
                                            const ExchangePart& part, ExchangePhase phase,
                                            TensorView computed, TensorView returned) const {
  const Traffic back = plan.traffic(part.number).transposed();
  if (in_one_piece(part)) {
    return move(ctx, phase, part.number, back, computed, piece_of(part, returned));
  }
  const TensorView arrived =
      ctx.scratch.allocate(computed.dtype(), {part.sent, computed.shape()[1]});
  auto work = move(ctx, phase, part.number, back, computed, arrived);
  return work_then(std::move(work), [&ctx, sending = part.sending, arrived, returned] {
    int64_t next = 0;
    for (const auto& [begin, end] : sending) {
      copy(ctx, arrived.rows(next, next + end - begin), returned.rows(begin, end));
      next += end - begin;
    }
  });
}

TensorView Exchange::exchange_keys(LayerContext& ctx, const ExchangePlan& plan,
                                   const ExchangePart& part, ExchangePhase phase,
                                   const TokenRows& rows, Arena& arena) const {
  const TensorView keys = arena.allocate(DType::kInt64, {part.received});
  const ScratchScope scope(ctx.scratch);
  const TensorView send = ctx.scratch.allocate(DType::kInt64, {part.sent});
  const TensorView received = ctx.scratch.allocate(DType::kInt64, {part.received});
  int64_t next = 0;
  for (const auto& [begin, end] : part.sending) {
    gather_row_keys(ctx, rows.global_index, plan.source.rows(begin, end), plan.choices(),
                    send.rows(next, next + end - begin));
    next += end - begin;
  }
  move(ctx, phase, part.number, plan.traffic(part.number), send, received)->wait();
  gather_row_keys(ctx, received, part.index, 1, keys);  // into compact order, choices stay
  return keys;
}

}  // namespace switchyard
