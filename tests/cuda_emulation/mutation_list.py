"""The mistakes that mutations.py plants: in a file of framework/backends/cuda/, the nth place that
reads `old` becomes `new`; `tests` is the filter of the tests that run the place."""

import dataclasses


@dataclasses.dataclass
class Mutation:
    name: str
    file: str
    old: str
    new: str
    tests: str
    nth: int = 0


BARRIER = "__syncthreads();"

MUTATIONS = [
    # A barrier removed: shared memory is read before it is written, or written before it is read.
    Mutation("norm_chunks_read_early", "norm.cu", "= sum[k]; " + BARRIER, "= sum[k];", "*rms_norm*"),
    Mutation("norm_leaves_read_early", "norm.cu", "= sum; " + BARRIER, "= sum;", "*rms_norm*"),
    Mutation("keys_read_early", "embedding.cu", "= key; " + BARRIER, "= key;", "*embedding*"),
    Mutation("row_sums_read_early", "embedding.cu", "* N, sum); " + BARRIER, "* N, sum);",
             "*embedding*"),
    Mutation("tile_read_early", "own_products.cu", BARRIER + " add_tiles(x_tile",
             "add_tiles(x_tile", "*RowStability*:*linear*"),
    Mutation("tile_reused_early", "own_products.cu", "weight_tile, sums); " + BARRIER,
             "weight_tile, sums);", "*RowStability*:*linear*"),
    Mutation("gradient_tile_reused_early", "own_products.cu", "(dy_tile, x_tile, sums); " + BARRIER,
             "(dy_tile, x_tile, sums);", "*linear*"),
    Mutation("mixing_tile_reused_early", "soft_mixing.cu", BARRIER, "", "*mix*", nth=1),
    Mutation("counts_read_early", "routing_scores.cu", BARRIER + " for (int64_t e = threadIdx.x;",
             "for (int64_t e = threadIdx.x;", "*statistics*:*count*"),
    Mutation("first_rows_read_early", "routing_rows.cu", "= up_to; " + BARRIER, "= up_to;",
             "*order_choices*"),
    Mutation("ranks_not_cleared_in_time", "routing_plans.cu", "of_rank[k] = 0; " + BARRIER,
             "of_rank[k] = 0;", "*drop_statistics*"),
    Mutation("keys_sorted_early", "routing_plans.cu", BARRIER + " sort_keys", "sort_keys",
             "*plan_reroute*"),
    Mutation("block_sum_read_early", "cuda_types.h", BARRIER + " T sum", "T sum",
             "*drop_statistics*:*sum_of_squares*"),
    # The same among the lanes of a warp.
    Mutation("run_counts_read_early", "routing_rows.cu", "}); __syncwarp();", "});",
             "*order_choices*"),
    Mutation("next_row_moved_early", "routing_rows.cu",
             "__syncwarp(); // all lanes have read next_row", "", "*order_choices*"),
    Mutation("room_taken_early", "routing_plans.cu",
             "__syncwarp(); // all lanes have looked at the room", "", "*plan_reroute*"),
    # Barriers and collectives that not all threads reach.
    Mutation("some_threads_skip_barrier", "embedding.cu", "keys[threadIdx.x] = key;",
             "if (token >= tokens) return; keys[threadIdx.x] = key;", "*embedding*"),
    Mutation("lanes_leave_before_sum", "routing_scores.cu", "double lse = 0, entropy = 0;",
             "if (!team.has_row) return; double lse = 0, entropy = 0;", "*statistics*"),
    Mutation("lane_outside_mask", "cuda_types.h", "x += __shfl_xor_sync(kAllLanes, x, offset);",
             "x += __shfl_xor_sync(0x7FFFFFFFu, x, offset);", "*rms_norm*"),
    # Additions that others' additions overwrite.
    Mutation("counts_race_in_block", "routing_scores.cu", "atomicAdd(&counts[e], 1);",
             "counts[e] += 1;", "*statistics*:*count*"),
    Mutation("counts_race_in_warp", "routing_rows.cu", "atomicAdd(&of_expert[e], 1);",
             "of_expert[e] += 1;", "*order_choices*"),
    Mutation("sums_race_among_blocks", "ordered_gradient.h",
             "atomicAdd(sum, static_cast<unsigned long long>(integer));",
             "*sum += static_cast<unsigned long long>(integer);", "*linear*:*embedding*"),
    # Places off by one, and what lies outside.
    Mutation("one_row_too_many", "norm.cu", "row >= rows", "row > rows", "*rms_norm*"),
    Mutation("one_token_too_many", "embedding.cu", "token >= tokens", "token > tokens",
             "*embedding*"),
    Mutation("next_expert_gathered", "routing_scores.cu", "* experts + expert[i]]",
             "* experts + expert[i] + 1]", "*gather_choices*"),
    Mutation("first_choice_forgotten", "routing_rows.cu", "i = team.row * choices;",
             "i = team.row * choices + 1;", "*combine*"),
    Mutation("rows_not_in_order", "routing_rows.cu", "__popc(same & earlier_lanes)", "__popc(same)",
             "*order_choices*"),
    Mutation("same_expert_twice", "routing_scores.cu", "floor = best + 1", "floor = best",
             "*top_k*"),
    Mutation("tail_reads_on", "own_products.cu", "i < count ?", "i <= count ?", "*linear*"),
    Mutation("vectors_where_none_fit", "cuda_types.h", "return columns % kVectorElements<T> == 0 &&",
             "return columns % kVectorElements<T> != 1 &&", "*softmax*:*rms_norm*:*combine*"),
    # What the host forgets.
    Mutation("stale_bfloat16_weight", "weight_forms.cpp", "w.forms_version != w.version()",
             "w.forms_version == 0", "*BFloat16*"),
    Mutation("gradient_not_cleared", "mat_mul.cu", "if (write == Write::kOverwrite) fill_zero",
             "if (write == Write::kAccumulate) fill_zero", "*linear*"),
    Mutation("idle_expert_not_cleared", "grouped_mat_mul.cu",
             "if (write == Write::kOverwrite) fill_zero",
             "if (write == Write::kAccumulate) fill_zero", "*grouped*"),
    Mutation("tiles_left_on_the_host", "own_products.cu", "to_device<RowTile>(ctx, tiles).data",
             "tiles.data()", "*RowStability*:*linear*"),
    Mutation("staging_reused_early", "cuda_stream.cpp",
             "if (halves_[current_].read) halves_[current_].read->wait();", "", "*CudaStreams*"),
    Mutation("stream_does_not_wait", "cuda_stream.cpp",
             "GPU_CHECK(cudaStreamWaitEvent(stream_, on_device->handle(), 0));", ";",
             "*CudaStreams*"),
    Mutation("event_not_recorded", "cuda_stream.cpp", "GPU_CHECK(cudaEventRecord(event_, stream));",
             "(void)stream;", "*CudaStreams*"),
    Mutation("host_does_not_wait", "cuda_stream.cpp",
             "void CudaStream::synchronize() { GPU_CHECK(cudaStreamSynchronize(stream_)); }",
             "void CudaStream::synchronize() {}", "*CudaStreams*:*Transfer*"),
]
