#include "verify/verifier.h"

namespace switchyard {

namespace {

std::unique_ptr<RunHooks> make(const Verifier::MakeHooks& hooks) {
  return hooks ? hooks() : std::make_unique<RunHooks>();
}

Error differs(const Failure& failure) {
  return Error(ExitCode::kLayoutsDiffer, failure.what, place_of(failure),
               "the reference disagrees with itself: verify against one rank (--layouts 1,...)");
}

// What all ranks see, and whether they hold the same weights.
void check_copies(Collectives& world, Comparison& seen, Snapshot& items, int64_t step) {
  seen.combine(world);
  if (seen.failure) return;
  seen.add_copies(world, items, step, step == 0 ? std::nullopt : std::optional(Check::kWeight));
  seen.combine(world);
}

}  // namespace

Snapshot Verifier::whole(Collectives& world, Snapshot items, int64_t step) const {
  Comparison copies;
  copies.add_copies(world, items, step);
  copies.combine(world);
  if (copies.failure) throw differs(*copies.failure);
  return items;
}

void Verifier::run_reference(const VerifyCase& reference, const MakeHooks& hooks) {
  reference_.assign(static_cast<size_t>(steps_) + 1, {});
  pool_.run(reference.ranks, [&](Collectives& world, int threads) {
    RankRun run(reference, source_, vocabulary_, world, threads, make(hooks));
    for (int64_t step = 0; step <= steps_; ++step) {
      Snapshot items =
          whole(world, step == 0 ? run.state() : run.step(step - 1, nullptr).items, step);
      if (world.rank() == 0) reference_[static_cast<size_t>(step)] = std::move(items);
    }
  });
  for (Snapshot& snapshot : reference_) pool_.share(snapshot);
}

Comparison Verifier::compare(const VerifyCase& tested, const MakeHooks& hooks) {
  const Tolerance tolerance = tolerance_of(tested.config);
  Comparison result;
  pool_.run(tested.ranks, [&](Collectives& world, int threads) {
    RankRun run(tested, source_, vocabulary_, world, threads, make(hooks));
    Comparison seen = compare_rank(run, tolerance, world);
    if (world.rank() == 0) result = std::move(seen);
  });
  return result;
}

Comparison Verifier::compare_rank(RankRun& run, const Tolerance& tolerance,
                                  Collectives& world) const {
  Comparison seen;
  // Weights start the same in every layout, whatever the reduction.
  Snapshot initial = run.state();
  seen.add(initial, reference_[0], {.exact = true}, 0, 0);
  check_copies(world, seen, initial, 0);
  for (int64_t step = 1; step <= steps_ && !seen.failure; ++step) {
    const Snapshot& expected = reference_[static_cast<size_t>(step)];
    if (!tolerance.exact) run.start_from(reference_[static_cast<size_t>(step - 1)]);
    RankRun::Step made = run.step(step - 1, tolerance.exact ? nullptr : &expected);
    seen.add(made.items, expected, tolerance, step, made.learning_rate);
    check_copies(world, seen, made.items, step);
  }
  seen.near_ties = run.near_ties();
  return seen;
}

}  // namespace switchyard
