#include <gtest/gtest.h>

#include "support/mpirun_job.h"
#include "trainer/layout_comparison.h"

namespace switchyard::test {
namespace {

TEST(MpirunLayouts, ThirtyStepsAgreeWithOneRank) {
  Collectives& world = mpirun_job().world();
  const std::vector<LayoutCase> layouts = mpirun_layouts(world.size());
  ASSERT_FALSE(layouts.empty());
  for (const LayoutCase& layout : layouts) {
    SCOPED_TRACE(layout.name);
    compare_with_reference(layout, run_reference(layout), world);
  }
}

}  // namespace
}  // namespace switchyard::test
