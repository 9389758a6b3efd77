#include "moe/dispatch.h"

#include <numeric>

namespace switchyard {

ReusedVector<int64_t> Traffic::sent_by(int rank) const {
  const auto first = rows.begin() + static_cast<int64_t>(rank) * ranks;
  return {first, first + ranks};
}

ReusedVector<int64_t> Traffic::received_by(int rank) const {
  ReusedVector<int64_t> received;
  received.reserve(static_cast<size_t>(ranks));
  for (int from = 0; from < ranks; ++from) received.push_back(at(from, rank));
  return received;
}

Traffic Traffic::transposed() const {
  Traffic back(ranks);
  for (int from = 0; from < ranks; ++from) {
    for (int to = 0; to < ranks; ++to) back.at(to, from) = at(from, to);
  }
  return back;
}

namespace {

int64_t sum_of(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

// Rows of x's kind.
TensorView take_rows(Arena& arena, TensorView x, int64_t rows) {
  Shape shape = x.shape();
  shape.set(0, rows);
  return arena.allocate(x.dtype(), shape);
}

// Copies consecutive rows of `from` into consecutive rows of `to`.
class RowCopier {
 public:
  RowCopier(LayerContext& ctx, TensorView from, TensorView to) : ctx_(ctx), from_(from), to_(to) {}

  // The next `rows` of the target are those from `first` on.
  void append(int64_t first, int64_t rows) {
    if (rows > 0) copy(ctx_, from_.rows(first, first + rows), to_.rows(next_, next_ + rows));
    next_ += rows;
  }

 private:
  LayerContext& ctx_;
  TensorView from_, to_;
  int64_t next_ = 0;
};

class AllToAllDispatch : public Dispatch {
 public:
  std::unique_ptr<Work> move(LayerContext& ctx, const Traffic& traffic, TensorView send,
                             TensorView received) const override {
    Collectives& group = *ctx.groups.expert;
    return group.all_to_all(ctx.stream, send, traffic.sent_by(group.rank()), received,
                            traffic.received_by(group.rank()));
  }

  int64_t rows_sent(const Groups&, const Traffic& traffic, int rank) const override {
    return sum_of(traffic.sent_by(rank)) - traffic.at(rank, rank);
  }

  int64_t most_work_rows(const Groups&, int64_t, int64_t) const override { return 0; }
};

class AllGatherDispatch : public Dispatch {
 public:
  std::unique_ptr<Work> move(LayerContext& ctx, const Traffic& traffic, TensorView send,
                             TensorView received) const override {
    Collectives& group = *ctx.groups.expert;
    ReusedVector<int64_t> totals;
    for (int rank = 0; rank < traffic.ranks; ++rank)
      totals.push_back(sum_of(traffic.sent_by(rank)));
    const TensorView gathered = take_rows(ctx.scratch, send, sum_of(totals));
    auto work = group.all_gather(ctx.stream, send, totals, gathered);
    return work_then(std::move(work), [&ctx, traffic, gathered, received, here = group.rank()] {
      RowCopier copier(ctx, gathered, received);
      int64_t first = 0;
      for (int from = 0; from < traffic.ranks; ++from) {
        for (int to = 0; to < traffic.ranks; ++to) {
          if (to == here) copier.append(first, traffic.at(from, to));
          first += traffic.at(from, to);
        }
      }
    });
  }

  int64_t rows_sent(const Groups&, const Traffic& traffic, int rank) const override {
    return sum_of(traffic.sent_by(rank)) * (traffic.ranks - 1);
  }

  int64_t most_work_rows(const Groups& groups, int64_t sent, int64_t received) const override {
    return std::min(sent, received) * groups.expert->size();
  }
};

// Rank n * P + i is the i-th of node n, P = size of Groups::node.
class HierarchicalDispatch : public Dispatch {
 public:
  std::unique_ptr<Work> move(LayerContext& ctx, const Traffic& traffic, TensorView send,
                             TensorView received) const override {
    Collectives& node = *ctx.groups.node;
    Collectives& across = *ctx.groups.across;
    const Places places(ctx.groups);
    const int here = ctx.groups.expert->rank(), my_node = across.rank(), my_place = node.rank();
    SWITCHYARD_CHECK(here == places.rank(my_node, my_place), "rank ", here, " is at place ",
                     my_place, " of node ", my_node);

    // Within the node: what goes to place i of any node goes to place i of this one.
    const TensorView by_place = take_rows(ctx.scratch, send, send.shape()[0]);
    ReusedVector<int64_t> first_to(1, 0);
    for (int to = 0; to < traffic.ranks; ++to) {
      first_to.push_back(first_to.back() + traffic.at(here, to));
    }
    ReusedVector<int64_t> to_place(static_cast<size_t>(places.per_node)), from_place(to_place);
    RowCopier sorter(ctx, send, by_place);
    for (int place = 0; place < places.per_node; ++place) {
      for (int n = 0; n < places.nodes; ++n) {
        const int to = places.rank(n, place);
        sorter.append(first_to[static_cast<size_t>(to)], traffic.at(here, to));
        to_place[static_cast<size_t>(place)] += traffic.at(here, to);
        from_place[static_cast<size_t>(place)] +=
            traffic.at(places.rank(my_node, place), places.rank(n, my_place));
      }
    }
    const TensorView gathered = take_rows(ctx.scratch, send, sum_of(from_place));
    node.all_to_all(ctx.stream, by_place, to_place, gathered, from_place)->wait();

    // Between nodes, with the ranks at this place: gathered is by (place, node), wanted by (node,
    // place), which is also the order in which all nodes' rows arrive.
    const TensorView by_node = take_rows(ctx.scratch, send, gathered.shape()[0]);
    RowCopier regrouper(ctx, gathered, by_node);
    ReusedVector<int64_t> to_node(static_cast<size_t>(places.nodes)), from_node(to_node);
    for (int n = 0; n < places.nodes; ++n) {
      int64_t first_of_place = 0;
      for (int place = 0; place < places.per_node; ++place) {
        int64_t first = first_of_place;
        const int from = places.rank(my_node, place);
        for (int before = 0; before < n; ++before) {
          first += traffic.at(from, places.rank(before, my_place));
        }
        regrouper.append(first, traffic.at(from, places.rank(n, my_place)));
        to_node[static_cast<size_t>(n)] += traffic.at(from, places.rank(n, my_place));
        from_node[static_cast<size_t>(n)] += traffic.at(places.rank(n, place), here);
        first_of_place += from_place[static_cast<size_t>(place)];
      }
    }
    return across.all_to_all(ctx.stream, by_node, to_node, received, from_node);
  }

  int64_t rows_sent(const Groups& groups, const Traffic& traffic, int rank) const override {
    const Places places(groups);
    const int my_node = rank / places.per_node, my_place = rank % places.per_node;
    int64_t sent = 0;
    for (int n = 0; n < places.nodes; ++n) {
      for (int place = 0; place < places.per_node; ++place) {
        if (place != my_place) sent += traffic.at(rank, places.rank(n, place));
        if (n != my_node) sent += traffic.at(places.rank(my_node, place), places.rank(n, my_place));
      }
    }
    return sent;
  }

  int64_t most_work_rows(const Groups& groups, int64_t sent, int64_t received) const override {
    const Places places(groups);
    return sent + 2 * std::min(places.per_node * sent, places.nodes * received);
  }

 private:
  struct Places {
    explicit Places(const Groups& groups)
        : nodes(groups.across->size()), per_node(groups.node->size()) {}
    int rank(int n, int place) const { return n * per_node + place; }
    int nodes, per_node;
  };
};

}  // namespace

std::unique_ptr<Dispatch> make_all_to_all_dispatch() {
  return std::make_unique<AllToAllDispatch>();
}
std::unique_ptr<Dispatch> make_all_gather_dispatch() {
  return std::make_unique<AllGatherDispatch>();
}
std::unique_ptr<Dispatch> make_hierarchical_dispatch() {
  return std::make_unique<HierarchicalDispatch>();
}

}  // namespace switchyard
