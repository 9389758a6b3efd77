#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "cases.h"
#include "collectives/single.h"
#include "collectives/threaded.h"

namespace switchyard {
namespace {

class SingleSuite : public testing::TestWithParam<CollectivesCase> {};

TEST_P(SingleSuite, Passes) {
  const auto world = make_single_collectives();
  GetParam().body(*world);
}

INSTANTIATE_TEST_SUITE_P(Collectives, SingleSuite, testing::ValuesIn(collectives_cases()),
                         [](const auto& instance) { return instance.param.name; });

class ThreadedSuite : public testing::TestWithParam<std::tuple<CollectivesCase, int>> {};

TEST_P(ThreadedSuite, Passes) {
  const auto& [tested, ranks] = GetParam();
  run_threaded_ranks(ranks, tested.body);
}

INSTANTIATE_TEST_SUITE_P(Collectives, ThreadedSuite,
                         testing::Combine(testing::ValuesIn(collectives_cases()),
                                          testing::Values(1, 2, 3, 4, 8)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param).name) + "_on_" +
                                  std::to_string(std::get<1>(instance.param));
                         });

}  // namespace
}  // namespace switchyard
