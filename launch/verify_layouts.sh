#!/usr/bin/env bash
# Shows that the layout doesn't matter: a tiny model in 14 layouts of 1 to 8 ranks (threads), under
# every way to move tokens, drop them, sum gradients and share out the optimizer. Settings are picked
# so that any two values occur together at least once; --all takes every combination. Then every
# router under every rule for overflow, in both families of models, on 1 to 8 ranks, to the bit.
# Usage: launch/verify_layouts.sh [--all] [PROGRAM]
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

pick=pairs
if [ "${1-}" = --all ]; then
  pick=all
  shift
fi
program=${1:-build/release/switchyard}
[ $# -gt 0 ] || build release switchyard
scratch=build/verify_layouts
layouts=1,2x1,2,3x1,3,4x1,4x2,4,5x1,5,8x1,8x2,8x4,8
layouts_in_pairs=1,2x1,2,3x1,4x1,4x2,4,5x1,8x1,8x2,8x4,8  # whose expert groups nodes of two ranks cut

# A line for each dimension: its name, then its values, each as NAME:KEY=VALUE,KEY=VALUE.
dimensions='
overflow   position:moe.capacity.priority=position probability:moe.capacity.priority=probability,moe.decoder.capacity.priority=position random:moe.capacity.priority=random reroute:moe.capacity.overflow=reroute dropless:moe.capacity.overflow=dropless rounds:moe.capacity.overflow=dropless,moe.capacity.max_tokens_per_round=64
dispatch   alltoall:moe.dispatch=alltoall allgather:moe.dispatch=allgather nodes_of_1:moe.dispatch=hierarchical,parallel.ranks_per_node=1 nodes_of_2:moe.dispatch=hierarchical,parallel.ranks_per_node=2
chunks     1_chunk:moe.overlap_chunks=1 2_chunks:moe.overlap_chunks=2 4_chunks:moe.overlap_chunks=4
device     reference:device=reference cpu:device=cpu cpu_bf16:device=cpu,train.precision=bfloat16 cpu_wire_bf16:device=cpu,moe.wire_dtype=bfloat16
reduction  ordered:train.reduction=ordered fast:train.reduction=fast
optimizer  whole:optimizer.shard=false sharded:optimizer.shard=true
'

# Every combination, one a line: the names, then the keys.
combinations() {
  printf '%s' "$dimensions" | awk '
    NF > 1 {
      if (!rows) { rows = 1; row[1] = "" }
      n = 0
      for (r = 1; r <= rows; r++) for (i = 2; i <= NF; i++) {
        colon = index($i, ":")
        next_row[++n] = row[r] " " substr($i, 1, colon - 1) "|" substr($i, colon + 1)
      }
      rows = n
      for (r = 1; r <= rows; r++) row[r] = next_row[r]
    }
    END { for (r = 1; r <= rows; r++) print substr(row[r], 2) }'
}

# Of those, the ones that together have every pair of values: always the one with most new pairs.
pairs() {
  awk '
    { line[NR] = $0; values = NF }
    function gain(r, count,   i, j, part, pair, sum) {
      split(line[r], part, " ")
      for (i = 1; i < values; i++) for (j = i + 1; j <= values; j++) {
        pair = i " " part[i] " " j " " part[j]
        if (pair in seen) continue
        sum++
        if (count) seen[pair] = 1
      }
      return sum
    }
    END {
      while (1) {
        best = 0
        for (r = 1; r <= NR; r++) if ((g = gain(r, 0)) > best) { best = g; chosen = r }
        if (!best) exit
        gain(chosen, 1)
        print line[chosen]
      }
    }'
}

make_dataset() {
  rm -rf "$scratch"
  mkdir -p "$scratch"
  cat > "$scratch/verify.yaml" <<EOF
name: verify
model: {d_model: 16, d_kv: 8, d_ff: 24, heads: 2, encoder_layers: 2, decoder_layers: 2, dropout: 0.1}
moe:
  experts: 6
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
data:
  dir: $scratch/data
  inputs_length: 32
  tokenizer: {vocabulary: 512}
  validation_share: 0.2
  sources: [{label: prose, path: docs/how-to}, {label: code, path: launch, format: text}]
train: {steps: 8, batch_sequences: 16}
parallel: {threads: 1}
schedule: {type: constant, learning_rate: 0.003}
EOF
  cat > "$scratch/verify_lm.yaml" <<EOF
name: verify_lm
model: {type: decoder_lm, d_model: 16, d_ff: 24, heads: 2, kv_heads: 1, layers: 2, activation: swiglu, dropout: 0.1}
moe:
  experts: 6
  group_sequences: 2
  losses: {load_balance: {coef: 0.05}, router_z: {coef: 0.01}}
  layers: all
data: {dir: $scratch/data, task: causal, length: 32}
train: {steps: 8, batch_sequences: 16}
parallel: {threads: 1}
schedule: {type: constant, learning_rate: 0.003}
EOF
  "$program" data build "$scratch/verify.yaml" > "$scratch/data.log"
}

# verify_one NAME ARGUMENT...: says in one line how the config of `family` went.
verify_one() {
  local name=$1
  shift
  tried=$((tried + 1))
  if "$program" verify "$scratch/$family.yaml" --steps 2 "$@" > "$scratch/output" 2>&1; then
    printf 'agree    %s\n' "$name"
    return
  fi
  printf 'DIFFER   %s\n' "$name"
  tail -n 4 "$scratch/output"
  failed=$((failed + 1))
}

# A router a line: its options; its rules for overflow; the stacks that may have it; its losses.
routers='
{type: switch, jitter: 0.05}                                  | drop reroute dropless | both    |
{type: top_k, top_k: 2, bias_update_rate: 0.01}               | drop reroute dropless | both    | importance.coef=0.1
{type: top_k, score: sigmoid, groups: {count: 2, top: 1}}     | drop reroute dropless | both    |
{type: noisy_top_k, top_k: 2}                                 | drop reroute dropless | both    | importance.coef=0.1 load.coef=0.1
{type: gshard}                                                | drop reroute dropless | both    |
{type: sinkhorn}                                              | drop reroute dropless | both    | load_balance.coef=0
{type: hierarchical, top_k: 4, groups: {count: 2, top: 2}}    | drop dropless         | both    |
{type: hash}                                                  | drop dropless         | both    | load_balance.coef=0 router_z.coef=0
{type: expert_choice, top_k: 2}                               | drop                  | encoder |
{type: soft, slots_per_expert: 3}                             | drop                  | encoder |
'

# Every router under every rule that it has, in both families of models; ordered, so to the bit.
verify_routers() {
  local options rules stacks losses rule loss arguments
  while IFS='|' read -r options rules stacks losses; do
    [ -n "$options" ] || continue
    for rule in $rules; do
      for family in verify verify_lm; do
        arguments=(--set train.reduction=ordered --set "moe.capacity.overflow=$rule")
        for loss in $losses; do arguments+=(--set "moe.losses.$loss"); done
        case "$family $stacks" in
          *_lm*encoder*) continue ;;
          *_lm*) arguments+=(--set "moe.router=$options") ;;
          *encoder*) arguments+=(--set "moe.encoder.router=$options") ;;
          *)
            arguments+=(--set "moe.encoder.router=$options")
            arguments+=(--set "moe.decoder.router=$options")
            ;;
        esac
        verify_one "$family: $options, $rule" --layouts 1,2,3,4,8 "${arguments[@]}"
      done
    done
  done < <(sed 's/ *| */|/g' <<< "$routers")
  family=verify
}

make_dataset
tried=0 failed=0 family=verify
while IFS= read -r combination; do
  name="" arguments=()
  for value in $combination; do
    name+=" ${value%%|*}"
    IFS=, read -ra keys <<< "${value#*|}"
    for key in "${keys[@]}"; do arguments+=(--set "$key"); done
  done
  chosen=$layouts
  [[ $name != *nodes_of_2* ]] || chosen=$layouts_in_pairs
  verify_one "${name# }" --layouts "$chosen" "${arguments[@]}"
done < <(if [ "$pick" = all ]; then combinations; else combinations | pairs; fi)

verify_one "1, 2 and 4 micro-batches" --layouts 1,2,4x2 --micro-batches 1,2,4 \
  --set train.reduction=ordered
verify_one "experts in slices" --layouts 1,2x2x2,4x4x2,4x2x2,8x8x4 \
  --set train.reduction=fast
verify_one "every planted bug is found" --layouts 1,2x1,4x2 --inject all \
  --set train.micro_batches=2 --set "moe.encoder.router={type: top_k, bias_update_rate: 0.1}"
verify_routers
printf '%d comparisons of up to %d layouts, %d differ\n' "$tried" \
  "$(awk -F, '{ print NF }' <<< "$layouts")" "$failed"
[ "$failed" -eq 0 ]
