"""Launch sizes of the kernels, and what one element of their work costs: bytes that must pass
through device memory when every cache works, and arithmetic operations counted in the source (an
addition, a multiplication, a division, an exponential: one each; comparisons and integer arithmetic
of addresses: none). Activations are bfloat16, what is accurate is float32, and sizes are those of
SIZES. A kernel that isn't listed here fails the page."""

import dataclasses

# experts, choices, tokens of a group, experts of an expert group, slots of a sequence, width of a
# row, of a head, vocabulary; iterations of sinkhorn count one each.
SIZES = {"E": 64, "K": 2, "D": 1024, "W": 128, "N": 128, "M": 4096}
E, K, D, W, N, M = (SIZES[name] for name in "EKDWNM")


@dataclasses.dataclass(frozen=True)
class Model:
    element: str
    bytes: float
    operations: float
    double: bool = False  # in float64
    chained: bool = False  # step after step, each of which waits for the one before
    threads: int = 256
    dynamic_bytes: int = 0


ROW = "a number of a row of E"
CHOICE = "a choice"
ACTIVATION = "a number of a row of D"
WEIGHT = "a weight"

MODELS = {
    # routing_scores.cu
    "softmax_kernel": Model(ROW, 8, 5),
    "softmax_backward_kernel": Model(ROW, 12, 4),
    "choose_top_k_kernel": Model(ROW, 4 + 4 * K / E, 0),
    "gather_choices_backward_kernel": Model(CHOICE, 8 + 2 * 32, 1),
    "each_index_kernel<MaskChoice>": Model(CHOICE, 8 + 1 / K, 0),
    "each_index_kernel<GatherChoice>": Model(CHOICE, 8 + 32, 0),
    "token_statistics_kernel": Model(ROW, 8 + 24 / E, 6, double=True),
    "count_real_choices_kernel": Model(CHOICE, 4 + 1 / K, 0),
    "piece_sums_kernel<MaskedValue>": Model(ROW, 4, 1, double=True),
    "piece_sums_kernel<MaskedValue<double>>": Model("a sum of a token", 8, 1, double=True),
    "each_index_kernel<StatisticsMean>": Model("a mean of a group", 8 * (M / 256 + 1), M / 256,
                                               double=True),
    "each_index_kernel<BalanceAddend>": Model("an expert of a group", 12, 4, double=True),
    "add_group_rows_kernel": Model(ROW, 8, 1),
    "router_z_gradient_kernel": Model(ROW, 12, 7),
    # routing_plans.cu: an expert's block reads all choices of its group.
    "plan_capacity_kernel<true>": Model("a choice, for each expert", 4, 0),
    "plan_capacity_kernel<false>": Model("a choice, for each expert", 4 + 4 / E, 0),
    "plan_reroute_kernel": Model(CHOICE, 12, 0, chained=True),
    "sum_dropped_kernel": Model(CHOICE, 12, 2, double=True, dynamic_bytes=4 * K),
    "join_dropped_kernel": Model("4096 choices", 16, 2, double=True),
    # routing_rows.cu
    "count_runs_kernel": Model(CHOICE, 4 + 4 * E / 512, 0, threads=32, dynamic_bytes=4 * E),
    "sum_runs_kernel": Model("an expert of a run", 8, 0),
    "sum_experts_kernel": Model("an expert", 8, 0, chained=True),
    "place_runs_kernel": Model(CHOICE, 12 + 4 * E / 512, 0, threads=32, dynamic_bytes=4 * E),
    "each_index_kernel<RowKey>": Model("a row", 4 + 8 + 8, 0),
    "gather_rows_kernel": Model(ACTIVATION, 4 + 4 / D, 0),
    "combine_rows_kernel": Model(ACTIVATION, 2 * K + 2 + 8 * K / D, 2 * K),
    "scale_rows_kernel": Model(ACTIVATION, 4 + 8 / D, 1),
    "weight_gradient_kernel": Model(ACTIVATION, 4 + 8 / D, 2),
    # gating_scores.cu
    "each_index_kernel<Sigmoid>": Model(ROW, 8, 3),
    "each_index_kernel<SigmoidBackward>": Model(ROW, 12, 3),
    "each_index_kernel<AddRow>": Model(ROW, 8, 1),
    "each_index_kernel<AddNoise>": Model(ROW, 12, 60, double=True),
    "each_index_kernel<AddNoiseBackward>": Model(ROW, 12, 60, double=True),
    "each_index_kernel<CvSquared>": Model("a group", 24, 2, double=True),
    "each_index_kernel<CvSquaredGradient>": Model(ROW, 8, 8, double=True),
    "each_index_kernel<ScaleColumnGroup>": Model(ROW, 8, 1),
    "normalize_rows_kernel": Model(ROW, 8, 3),
    "normalize_rows_backward_kernel": Model(ROW, 12, 6),
    "smooth_load_kernel": Model(ROW, 16, 8),
    "smooth_load_backward_kernel": Model(ROW, 32, 16),
    "moments_kernel": Model("a column of a group", 8 * (M / 256 + 1), M / 256 + 4, double=True),
    "scale_column_groups_backward_kernel": Model(ROW, 12, 3),
    "sum_rows_kernel": Model(ROW, 4, 1),
    # gating_choices.cu
    "each_index_kernel<GroupScore>": Model("a group of experts of a token", 4 * E / 8 + 4, 2),
    "keep_best_groups_kernel": Model(ROW, 8, 0),
    "each_index_kernel<SkipChoice>": Model("a token", 8 + 8 + 8 + 16, 2),
    "choose_tokens_kernel": Model(ROW, 32, 0),
    "piece_sums_kernel<TokensIn>": Model("a token", 1, 1, double=True),
    "piece_exp_sums_kernel<RowScaledLogit>": Model(ROW, 4 + 8 / E, 4, double=True),
    "each_index_kernel<BalanceColumn>": Model("a column of a group", 16 * M / 256, 3 * M / 256,
                                              double=True),
    "balance_rows_kernel": Model(ROW, 4 + 8 / E, 5, double=True),
    "each_index_kernel<BalancedLogit>": Model(ROW, 8 + 8 / E, 3, double=True),
    "each_index_kernel<JoinChoice>": Model(CHOICE, 8 + 32, 0),
    "each_index_kernel<SplitChoice>": Model(CHOICE, 8, 0),
    "each_index_kernel<LookUpChoice>": Model("a token", 8 + 32, 0),
    # soft_mixing.cu; products of 64 x 64 tiles
    "piece_exp_sums_kernel<Logit>": Model("a token of a slot", 4, 3),
    "piece_sums_kernel<WeightProduct>": Model("a token of a slot", 8, 2, double=True),
    "each_index_kernel<SlotSum>": Model("a slot of a sequence", 8 * M / 256 + 8, 3 * M / 256),
    "each_index_kernel<SlotWeight>": Model("a token of a slot", 8, 3),
    "each_index_kernel<SlotMean>": Model("a slot of a sequence", 8 * M / 256 + 4, M / 256,
                                         double=True),
    "each_index_kernel<SlotLogitGradient>": Model("a token of a slot", 12, 2),
    "mixing_kernel<(Mixing)0>": Model("a number of a slot's row", M * (4 + 2) / 64 + 2, 2 * M),
    "mixing_kernel<(Mixing)1>": Model("a number of a token's row", N * (4 + 2) / 64 + 2, 2 * N),
    "mixing_kernel<(Mixing)2>": Model("a token of a slot", D * (2 + 2) / 64 + 4, 2 * D),
    # collectives/nccl/max_keys.cu
    "to_keys_kernel": Model("a number", 8, 0),
    "from_keys_kernel": Model("a number", 8, 0),
    # elementwise.cu
    "loop_over_elements<Add>": Model(ACTIVATION, 6, 1),
    "loop_over_elements<Scale>": Model(ACTIVATION, 4, 1),
    "loop_over_elements<Convert>": Model(ACTIVATION, 4, 0),
    "loop_over_elements<ActivationBackward>": Model(ACTIVATION, 6, 12),
    "loop_over_elements<GatedActivation>": Model(ACTIVATION, 6, 10),
    "loop_over_elements<GatedActivationBackward>": Model(ACTIVATION, 10, 16),
    "finish_rows_kernel": Model(ACTIVATION, 6, 10),
    # embedding.cu
    "embedding_rows": Model(ACTIVATION, 6, 0, threads=128),
    "sort_runs": Model("a token", 12, 0),
    "merge_runs": Model("a token", 16, 0),
    "sum_rows_by_id": Model(ACTIVATION, 2 + 8, 1, threads=128),
    "bias_of_distances": Model("a bias", 4, 0),
    "sum_by_bucket": Model("a bias", 4, 1),
    # norm.cu
    "rms_norm_rows": Model(ACTIVATION, 4, 4, threads=128),
    "rms_norm_input_gradient": Model(ACTIVATION, 6, 7, threads=128),
    "rms_norm_chunk_sums": Model(ACTIVATION, 4, 3),
    "sum_chunks": Model("a chunk's sum", 16, 1, double=True),
    # rotary.cu, random_ops.cu
    "table_of_angles": Model("an angle", 8, 3),
    "rotate_points": Model(ACTIVATION, 4, 3),
    "change_randomly": Model(ACTIVATION, 4, 3),
    # loss.cu
    "cross_entropy_rows": Model("a logit", 4, 5, threads=512),
    # update.cu
    "sum_squares_of_parts": Model(WEIGHT, 4, 2, double=True),
    "sum_parts": Model("a part", 8, 1, double=True),
    "first_gradients_of_sums": Model(WEIGHT, 12, 1, double=True, threads=1024),
    "gradients_of_sums": Model(WEIGHT, 12, 1, double=True),
    "loop_over_elements<AdamW>": Model(WEIGHT, 28, 14),
    "loop_over_elements<Sgd>": Model(WEIGHT, 20, 5),
    # adafactor.cu
    "row_moments": Model(WEIGHT, 4, 3),
    "column_squares": Model(WEIGHT, 4, 2, double=True),
    "column_moments": Model("a chunk's sum", 8, 1, double=True),
    "inverse_means": Model("a row of a matrix", 4, 1, double=True),
    "factored_sums": Model(WEIGHT, 8, 7),
    "factored_step": Model(WEIGHT, 12, 6),
    "whole_moments": Model(WEIGHT, 16, 10),
    "whole_step": Model(WEIGHT, 16, 6),
    # own_products.cu: 64 x 64 tiles, an inner dimension of D
    "row_product_kernel": Model("a product's number", D * (2 + 2) / 64 + 4, 2 * D),
    "ordered_product_kernel": Model("a weight's gradient over 64 rows", 64 * (2 + 2) / 64 + 16,
                                    2 * 64),
    # attention.cu and attention_backward.cu: pairs of a query and a key of a head, in tiles of 64
    "attention_tiles": Model("a pair of a query and a key", 2 * 2 * W / 64, 4 * W + 5),
    "attend_to_all_keys": Model("a query of a head", 4, 0, threads=128),
    "dot_with_out": Model("a number of a head", 4, 2, threads=128),
    "find_queries_without_keys": Model("a query", 4, 0, threads=32),
    "query_gradient_tiles": Model("a pair of a query and a key", 2 * 2 * W / 64, 6 * W + 6),
    "key_gradient_tiles": Model("a pair of a query and a key", 2 * 2 * W / 64, 8 * W + 6),
    "sum_distances": Model("a sum of a query tile", 4, 1),
}
