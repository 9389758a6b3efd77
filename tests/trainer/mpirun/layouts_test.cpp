#include <gtest/gtest.h>

#include "support/mpirun_job.h"
#include "trainer/layout_comparison.h"

namespace switchyard::test {
namespace {

TEST(MpirunLayouts, ThirtyStepsAgreeWithOneRank) {
  Collectives& world = mpirun_job().world();
  const auto pool = make_world_pool(world, 1);
  const std::vector<LayoutCase> layouts = mpirun_layouts(world.size());
  ASSERT_FALSE(layouts.empty());
  for (const LayoutCase& layout : layouts) {
    SCOPED_TRACE(layout.name);
    const Comparison seen = compare_with_one_rank(layout, *pool);
    EXPECT_FALSE(seen.failure) << place_of(*seen.failure) << ": " << seen.failure->what;
  }
}

}  // namespace
}  // namespace switchyard::test
