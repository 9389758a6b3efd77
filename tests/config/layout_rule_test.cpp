#include "config/resolve.h"
#include "config/rules.h"
#include "test_tables.h"

namespace switchyard {
namespace {

TEST(Layout, ExpertRanksThatDoNotDivideTheJobAreToldWhatWould) {
  const Config config = read("seed: 1\nparallel:\n  expert: 3\n");
  try {
    check_layout(config, 4);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "parallel.expert = 3 does not divide the 4 ranks of this job\n"
                 "  at a.yaml:3:11\n"
                 "  use 1, 2 or 4, or start 3 or 6 ranks");
  }
  check_layout(config, 3);
  check_layout(config, 6);
}

TEST(Layout, MoreExpertRanksThanRanks) {
  const Config config = read("parallel: {expert: 8}\n");
  try {
    check_layout(config, 1);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.summary(), "parallel.expert = 8 does not divide the 1 rank of this job");
    EXPECT_EQ(error.advice(), "use 1, or start 8 or 16 ranks");
  }
}

TEST(Layout, SlicesThatDoNotDivideTheExpertGroupAreToldWhatWould) {
  const Config config = read("model: {d_ff: 120}\nparallel:\n  expert_tensor: 3\n");
  try {
    check_layout(config, 4);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "parallel.expert_tensor = 3 does not divide the 4 ranks of an expert group\n"
                 "  at a.yaml:3:18\n"
                 "  use 1, 2 or 4, or an expert group of 6 ranks");
  }
  check_layout(config, 3);
  check_layout(config, 6);
}

TEST(Layout, MoreExpertRanksThanExperts) {
  check_layout(read("moe: {experts: 4}\nparallel: {expert: 8}\n"), 16);
}

TEST(Layout, AutoFitsEveryJob) {
  const Config config = read("");
  for (const int64_t ranks : {1, 2, 3, 7, 64}) {
    check_layout(config, ranks);
    EXPECT_EQ(resolve_expert_ranks(config, ranks), ranks);
  }
}

TEST(Layout, NodesAndExpertGroupsFitInEachOther) {
  const Config config = read("moe: {dispatch: hierarchical}\nparallel:\n  ranks_per_node: 4\n");
  for (const int64_t group : {1, 2, 4, 8, 12}) check_nodes(config, group, 4);
  try {
    check_nodes(config, 6, 4);
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(
        error.what(),
        "moe.dispatch = hierarchical can't cut expert groups of 6 ranks into nodes of 4\n"
        "  at a.yaml:3:19\n"
        "  use 1, 2, 3 or 6 ranks per node, another parallel.expert, or dispatch: alltoall");
  }
}

TEST(Resolve, GroupSequences) {
  // inputs 128 -> targets 29 (T5's table): 1,024 tokens need 36 sequences.
  EXPECT_EQ(resolve_group_sequences(read("train: {batch_sequences: 64}\n")), 64);
  EXPECT_EQ(resolve_group_sequences(read("train: {batch_sequences: 120}\n")), 40);
  EXPECT_EQ(resolve_group_sequences(read("train: {batch_sequences: 30}\n")), 30);
  EXPECT_EQ(resolve_group_sequences(read("train: {batch_sequences: 72}\n")), 36);
  EXPECT_EQ(resolve_group_sequences(read("moe: {group_sequences: 8}\n")), 8);
  // Targets of 2,000 tokens: one sequence of 1,024 inputs is enough.
  EXPECT_EQ(resolve_group_sequences(read("data: {inputs_length: 1024, targets_length: 2000}\n")),
            1);
}

// T5's table, parity.md 3.1.
TEST(Resolve, TargetsLength) {
  const std::pair<int, int> table[] = {{64, 14},  {114, 26},  {128, 29},
                                       {256, 58}, {512, 114}, {1024, 229}};
  for (const auto& [inputs, targets] : table)
    EXPECT_EQ(resolve_targets_length(
                  read("data: {inputs_length: " + std::to_string(inputs) + "}\n").data),
              targets)
        << inputs;
  EXPECT_EQ(resolve_targets_length(read("data: {targets_length: 40}\n").data), 40);
  EXPECT_EQ(resolve_targets_length(read("data: {task: text_to_text, inputs_length: 48}\n").data),
            48);
  EXPECT_EQ(resolve_targets_length(
                read("data: {inputs_length: 128, mixture: [{dir: a, task: text_to_text}, {dir: "
                     "b}]}\n")
                    .data),
            29);
}

// At 190 tokens T5's mask rounds in float32 to one noise token more or less than its plan: the
// target must have room for either.
TEST(Resolve, TargetsLengthHoldsTheMasksRounding) {
  DataConfig data;
  for (data.inputs_length = 160; data.inputs_length < 180; ++data.inputs_length) {
    const SpanLengths planned = span_lengths(static_cast<int>(data.inputs_length));
    EXPECT_GE(resolve_targets_length(data), corrupted_lengths(planned.tokens).targets);
  }
}

TEST(LayerSet, ContainsWhatItsTextSays) {
  const auto of_12 = [](const LayerSet& set) { return set.of(12); };
  EXPECT_EQ(of_12(LayerSet::every(2)), (std::vector<int64_t>{1, 3, 5, 7, 9, 11}));
  EXPECT_EQ(of_12(LayerSet::every(5)), (std::vector<int64_t>{1, 6, 11}));
  EXPECT_EQ(of_12(LayerSet::every(1)).size(), 12u);
  EXPECT_EQ(of_12(LayerSet::all()).size(), 12u);
  EXPECT_TRUE(of_12(LayerSet::none()).empty());
  EXPECT_EQ(of_12(LayerSet::list({7, 0, 2})), (std::vector<int64_t>{0, 2, 7}));
}

}  // namespace
}  // namespace switchyard
