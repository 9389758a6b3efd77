#!/usr/bin/env bash
# What train.reduction: ordered costs: the median time of a step over that with fast sums, runs of
# both in turn. Prints the table of docs/explanation/layout-invariance.md; about 5 minutes.
# Usage: bench/ordered_cost.sh, after launch/quickstart.sh, whose dataset it trains on.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"
cd "$root"

runs=$(mktemp -d)
trap 'rm -r "$runs"' EXIT
wide=(model.d_model=512 model.d_kv=64 model.heads=8 model.d_ff=2048)

# measure NAME [OVERRIDE...]: three runs of each kind; their steps' seconds stand in $runs/NAME-KIND.
measure() {
  local name=$1 kind round overrides=()
  shift
  for override in "$@"; do overrides+=(--set "$override"); done
  for round in 1 2 3; do
    for kind in fast ordered; do
      build/release/switchyard train configs/quickstart.yaml --progress none \
        --set train.steps=10 --set train.evaluate_every=none --set train.evaluation_sequences=16 \
        --set "run.dir=$runs" --set "name=$name-$kind-$round" --set run.tensorboard=false \
        --set "train.reduction=$kind" "${overrides[@]}" >"$runs/log" 2>&1 \
        || { cat "$runs/log" >&2; die "a run of $name failed"; }
      jq -s '[.[] | select(has("loss"))][3:][].seconds' \
        "$runs/$name-$kind-$round/metrics.jsonl" >>"$runs/$name-$kind"
    done
  done
}

# row NAME MEANING: a line of the table.
row() {
  jq -nr --slurpfile fast "$runs/$1-fast" --slurpfile ordered "$runs/$1-ordered" \
    --arg meaning "$2" '
    def median: sort | .[length / 2 | floor];
    def digits: . * 1000 | round | tostring;
    ($fast | median) as $f | ($ordered | median) as $o
    | "| \($meaning) | \($f | digits) | \($o | digits) | \($o / $f * 100 | round / 100) |"'
}

printf '| step | fast, ms | ordered, ms | ratio |\n|---|---|---|---|\n'
measure quickstart
row quickstart 'the quickstart (D 128, F 512, 8 experts, 16 sequences in 2 groups)'
measure groups moe.group_sequences=2
row groups 'the same in 8 groups'
measure bfloat16 train.precision=bfloat16
row bfloat16 'the quickstart in bfloat16'
measure wide "${wide[@]}"
row wide 'wide (D 512, F 2048, 8 experts)'
