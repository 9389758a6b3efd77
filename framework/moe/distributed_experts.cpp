#include "moe/distributed_experts.h"

namespace switchyard {

DistributedExperts::DistributedExperts(uint16_t layer, std::unique_ptr<Experts> experts,
                                       Exchange::Options options)
    : experts_(std::move(experts)), exchange_(layer, experts_->range().total, std::move(options)) {}

std::unique_ptr<Work> DistributedExperts::send(LayerContext& ctx, const TokenRows& rows,
                                               TensorView x, const ExchangePlan& plan, int64_t part,
                                               bool again, Arena& arena, Visit& visit) const {
  visit.part = make_part(ctx, plan, part, arena);
  if (experts_->drops(ctx)) {
    const auto phase = again ? ExchangePhase::kKeysAgain : ExchangePhase::kKeys;
    visit.part.keys = exchange_.exchange_keys(ctx, plan, visit.part, phase, rows, arena);
  }
  visit.received = arena.allocate(x.dtype(), {visit.part.received, x.shape()[1]});
  return exchange_.send_tokens(ctx, plan, visit.part,
                               again ? ExchangePhase::kRowsAgain : ExchangePhase::kRows, x,
                               visit.received);
}

void DistributedExperts::forward(LayerContext& ctx, const TokenRows& rows, TensorView kept,
                                 TensorView x, Saved& saved) {
  saved.plan = exchange_.agree(ctx, rows, kept);
  saved.returned = ctx.saved.allocate(x.dtype(), {saved.plan.sent, x.shape()[1]});
  saved.visits.clear();
  for (int64_t round = 0; round < saved.plan.rounds; ++round) {
    forward_round(ctx, rows, x, round, saved);
  }
}

void DistributedExperts::forward_round(LayerContext& ctx, const TokenRows& rows, TensorView x,
                                       int64_t round, Saved& saved) {
  const ScratchScope scope(ctx.scratch);
  const ExchangePlan& plan = saved.plan;
  Arena& arena = in_rounds() ? ctx.scratch : ctx.saved;
  const auto chunks = static_cast<size_t>(plan.chunks);
  ReusedVector<Visit> visits(chunks);
  ReusedVector<std::unique_ptr<Work>> coming, leaving;
  coming.reserve(chunks);
  leaving.reserve(chunks);
  const auto send_chunk = [&](size_t chunk) {
    const int64_t part = round * plan.chunks + static_cast<int64_t>(chunk);
    coming.push_back(send(ctx, rows, x, plan, part, false, arena, visits[chunk]));
  };
  send_chunk(0);
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    if (chunk + 1 < chunks) send_chunk(chunk + 1);
    coming[chunk]->wait();
    Visit& visit = visits[chunk];
    const TensorView computed =
        experts_->forward(ctx, visit.part.ragged(), visit.received, visit.part.keys, visit.experts,
                          arena, ctx.scratch);
    leaving.push_back(exchange_.return_rows(ctx, plan, visit.part, ExchangePhase::kResults,
                                            computed, saved.returned));
  }
  for (const auto& work : leaving) work->wait();
  if (!in_rounds()) saved.visits = std::move(visits);
}

TensorView DistributedExperts::backward(LayerContext& ctx, const TokenRows& rows, TensorView x,
                                        const Saved& saved, TensorView dreturned) {
  const TensorView drows = ctx.scratch.allocate(dreturned.dtype(), dreturned.shape());
  for (int64_t round = 0; round < saved.plan.rounds; ++round) {
    backward_round(ctx, rows, x, round, saved, dreturned, drows);
  }
  return drows;
}

void DistributedExperts::backward_round(LayerContext& ctx, const TokenRows& rows, TensorView x,
                                        int64_t round, const Saved& saved, TensorView dreturned,
                                        TensorView drows) {
  const ScratchScope scope(ctx.scratch);
  const ExchangePlan& plan = saved.plan;
  const auto chunks = static_cast<size_t>(plan.chunks);
  ReusedVector<Visit> again(in_rounds() ? chunks : 0);
  const auto visit_of = [&](size_t chunk) -> const Visit& {
    return in_rounds() ? again[chunk] : saved.visits[chunk];
  };
  ReusedVector<TensorView> dcomputed;
  ReusedVector<std::unique_ptr<Work>> inputs, gradients, leaving;
  dcomputed.reserve(chunks);
  for (auto* works : {&inputs, &gradients, &leaving}) works->reserve(chunks);
  const auto send_chunk = [&](size_t chunk) {
    const int64_t part = round * plan.chunks + static_cast<int64_t>(chunk);
    if (in_rounds()) {
      inputs.push_back(send(ctx, rows, x, plan, part, true, ctx.scratch, again[chunk]));
    }
    const Visit& visit = visit_of(chunk);
    dcomputed.push_back(ctx.scratch.allocate(visit.received.dtype(), visit.received.shape()));
    gradients.push_back(exchange_.send_rows(ctx, plan, visit.part, ExchangePhase::kGradients,
                                            dreturned, dcomputed.back()));
  };
  send_chunk(0);
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    if (chunk + 1 < chunks) send_chunk(chunk + 1);
    const RaggedRows ragged = visit_of(chunk).part.ragged();
    if (in_rounds()) {
      inputs[chunk]->wait();
      Visit& visit = again[chunk];
      experts_->compute_hidden(ctx, ragged, visit.received, visit.part.keys, visit.experts,
                               ctx.scratch);
    }
    gradients[chunk]->wait();
    const Visit& visit = visit_of(chunk);
    const TensorView dreceived = experts_->backward(ctx, ragged, visit.received, visit.part.keys,
                                                    visit.experts, dcomputed[chunk], ctx.scratch);
    leaving.push_back(exchange_.return_rows(ctx, plan, visit.part, ExchangePhase::kInputGradients,
                                            dreceived, drows));
  }
  for (const auto& work : leaving) work->wait();
}

DistributedExperts::Sent DistributedExperts::sent(const LayerContext& ctx,
                                                  const Saved& saved) const {
  const DType wire = exchange_.wire_dtype(saved.returned.dtype());
  int64_t row_bytes = saved.returned.shape()[1] * static_cast<int64_t>(size_of(wire));
  if (experts_->drops(ctx)) row_bytes += static_cast<int64_t>(sizeof(int64_t));  // the row's key
  Sent sent;
  for (int64_t part = 0; part < saved.plan.parts(); ++part) {
    sent.rows +=
        exchange_.dispatch().rows_sent(ctx.groups, saved.plan.traffic(part), saved.plan.here);
  }
  sent.bytes = sent.rows * row_bytes;
  if (in_rounds() && ctx.training) sent.bytes_again = sent.bytes;
  return sent;
}

}  // namespace switchyard
