// The experts of one layer as a rank's tokens see them, whichever ranks hold them: rows go out, in
// rounds and chunks, and come back computed. A round ends before the next begins; inside it the
// next chunk is on its way while one is computed, as far as the stream lets it.
#pragma once

#include "layers/token_rows.h"
#include "moe/exchange.h"
#include "moe/experts.h"

namespace switchyard {

class DistributedExperts {
 public:
  // The rows of one part where their experts are.
  struct Visit {
    ExchangePart part;
    TensorView received;  // [rows here, D]
    Experts::Saved experts;
  };
  struct Saved {
    ExchangePlan plan;
    ReusedVector<Visit> visits;  // [parts]; none in rounds: they keep no received row
    TensorView returned;         // [rows sent, D]
  };
  // What left a rank for one micro-batch.
  struct Sent {
    int64_t rows = 0;         // forward, one direction
    int64_t bytes = 0;        // of them
    int64_t bytes_again = 0;  // rows that backward sends a second time
  };

  //   layer  see layer_id
  DistributedExperts(uint16_t layer, std::unique_ptr<Experts> experts, Exchange::Options options);

  // Fills saved.returned, in ctx.saved. Every rank of the expert group calls it.
  //   kept  int32 [T, K], see plan_capacity
  //   x     [T, D]
  void forward(LayerContext& ctx, const TokenRows& rows, TensorView kept, TensorView x,
               Saved& saved);
  // Adds to the experts' gradients. Every rank of the expert group calls it.
  //   x          [T, D], as in forward
  //   dreturned  [rows sent, D]: d(loss)/d(returned)
  //   returns    [rows sent, D] in ctx.scratch: d(loss)/d(rows sent)
  TensorView backward(LayerContext& ctx, const TokenRows& rows, TensorView x, const Saved& saved,
                      TensorView dreturned);

  Sent sent(const LayerContext& ctx, const Saved& saved) const;

  Experts& experts() { return *experts_; }
  const Experts& experts() const { return *experts_; }
  const Exchange& exchange() const { return exchange_; }

 private:
  bool in_rounds() const { return exchange_.schedule().max_rows_per_round.has_value(); }
  // Starts to send a part's rows, and sends their keys where experts ask for them.
  std::unique_ptr<Work> send(LayerContext& ctx, const TokenRows& rows, TensorView x,
                             const ExchangePlan& plan, int64_t part, bool again, Arena& arena,
                             Visit& visit) const;
  void forward_round(LayerContext& ctx, const TokenRows& rows, TensorView x, int64_t round,
                     Saved& saved);
  void backward_round(LayerContext& ctx, const TokenRows& rows, TensorView x, int64_t round,
                      const Saved& saved, TensorView dreturned, TensorView drows);

  std::unique_ptr<Experts> experts_;
  Exchange exchange_;
};

}  // namespace switchyard
