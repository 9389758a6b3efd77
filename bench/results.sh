#!/usr/bin/env bash
# Trains small models that differ in one thing each, three seeds of every one, and writes
# docs/results.md from their metrics: about 15 minutes on two idle cores.
# Usage: bench/results.sh, after launch/quickstart.sh, whose text it trains on. Finished runs in
# runs/results/ are kept, so that a second call only writes the page again.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"

runs=runs/results
seeds=(1 2 3)
page=docs/results.md

# train_group NAME CONFIG [OVERRIDE...]: one run a seed.
train_group() {
  local name=$1 config=$2 seed overrides=()
  shift 2
  for override in "$@"; do overrides+=(--set "$override"); done
  for seed in "${seeds[@]}"; do
    printf '\n-- %s, seed %s\n' "$name" "$seed"
    on_two_ranks train "bench/results/$config.yaml" --set "run.dir=$runs" \
      --set "name=$name-$seed" --set "seed=$seed" "${overrides[@]}"
  done
}

train_all() {
  train_group dense dense
  for experts in 2 4 8 16; do train_group "experts-$experts" mixture "moe.experts=$experts"; done
  train_group no-balance mixture moe.losses.load_balance.coef=0
  for factor in 1.0 1.25; do
    train_group "capacity-$factor" mixture "moe.capacity.train_factor=$factor"
  done
}

# facts NAME: a line for each run: final validation loss, coefficient of variation of the load and
# dropped share in the last evaluation (means over layers), dropped share over the last 50 steps,
# seconds, executed GFLOP a step.
facts() {
  local seed
  for seed in "${seeds[@]}"; do
    jq -rs '
      def mean: if length == 0 then 0 else add / length end;
      [.[] | select(has("loss"))] as $steps
      | [.[] | select(has("validation.loss"))][-1] as $last
      | [$last["validation.loss"], ([$last["validation.moe"][].load_variation] | mean),
         $last["validation.dropped_share"], ([$steps[-50:][].dropped_share] | mean),
         ([$steps[].seconds] | add), ([$steps[-50:][].flops] | mean) / 1e9]
      | @tsv' "$runs/$1-$seed/metrics.jsonl"
  done
}

# steps_to LOSS NAME: for each run the step at which its validation loss, drawn straight between
# evaluations, comes down to LOSS; the word never where it does not.
steps_to() {
  local seed
  for seed in "${seeds[@]}"; do
    jq -rs --argjson target "$1" '
      [.[] | select(has("validation.loss")) | {step, loss: .["validation.loss"]}] as $curve
      | [range(1; $curve | length)
         | {a: $curve[. - 1], b: $curve[.]}
         | select(.b.loss <= $target)
         | .a.step + (.b.step - .a.step) * ((.a.loss - $target) / (.a.loss - .b.loss))][0]
      // "never"' "$runs/$2-$seed/metrics.jsonl"
  done
}

# reaches LOSS NAME: the steps to LOSS, or for how many seeds the run was too short.
reaches() {
  local late
  [ "$2" != dense ] || { steps; return; }
  late=$(steps_to "$@" | grep -c never || true)
  if [ "$late" -eq 0 ]; then
    steps_to "$@" | spread 1 %.0f
  else
    echo "not within the run ($late of ${#seeds[@]} seeds)"
  fi
}

# spread COLUMN FORMAT [SCALE]: mean ± standard deviation of a column of standard input.
spread() {
  awk -v column="$1" -v format="$2" -v scale="${3:-1}" '
    { x = $column * scale; n++; sum += x; squares += x * x }
    END {
      mean = sum / n
      variance = n > 1 ? (squares - n * mean * mean) / (n - 1) : 0
      printf format " ± " format "\n", mean, sqrt(variance > 0 ? variance : 0)
    }'
}

write_page() {
  write_text > "$page.new"
  mv "$page.new" "$page"
}

write_text() {
  local dense_loss
  dense_loss=$(facts dense | awk '{ sum += $1 } END { print sum / NR }')
  cat <<TEXT
# Results

Small models on two cores: what mixtures, the load-balance loss and room per expert do to one and
the same run. Made by \`bench/results.sh\` on $(date +%Y-%m-%d) ($(machine)); change the configs in
\`bench/results/\` and run it again. Mean ± standard deviation over ${#seeds[@]} seeds; validation loss
in nats per target token, on manual pages in ten languages. A run makes $(steps) steps and sees
$(tokens) M tokens: enough to show directions, not to rank methods.

## Experts, at equal steps and equal work per token

Every feed-forward network is a mixture, or none is. A token goes through one expert of the dense
network's size, but an expert sees only its share of the tokens: the fourth column says how long it
takes until that pays. The executed work differs by the router and by tokens that are dropped.

| model | validation loss | executed GFLOP a step | steps to the dense model's final loss | seconds |
|---|---|---|---|---|
TEXT
  local name label
  for name in dense experts-2 experts-4 experts-8 experts-16; do
    label=${name/experts-/experts: }
    printf '| %s | %s | %s | %s | %s |\n' "$label" "$(facts "$name" | spread 1 %.3f)" \
      "$(facts "$name" | spread 6 %.2f)" "$(reaches "$dense_loss" "$name")" \
      "$(facts "$name" | spread 5 %.0f)"
  done
  cat <<TEXT

## The load-balance loss, 8 experts

Load variation is the coefficient of variation of the tokens per expert in the last evaluation, mean
over layers (0 is even). Dropped: share of all choices, in the last 50 steps and in the last
evaluation.

| \`moe.losses.load_balance.coef\` | validation loss | load variation | dropped, training (%) | dropped, evaluation (%) |
|---|---|---|---|---|
TEXT
  balance_row "0 (off)" no-balance
  balance_row "0.01" experts-8
  cat <<TEXT

## Room per expert, 8 experts

\`moe.capacity.train_factor\`: room over the mean number of tokens per expert; evaluation at 2.0.

| factor | validation loss | load variation | dropped, training (%) | dropped, evaluation (%) |
|---|---|---|---|---|
TEXT
  balance_row 1.0 capacity-1.0
  balance_row 1.25 capacity-1.25
  balance_row 2.0 experts-8
}

balance_row() {
  printf '| %s | %s | %s | %s | %s |\n' "$1" "$(facts "$2" | spread 1 %.3f)" \
    "$(facts "$2" | spread 2 %.2f)" "$(facts "$2" | spread 4 %.2f 100)" \
    "$(facts "$2" | spread 3 %.2f 100)"
}

tokens() {
  jq -s '[.[] | select(has("loss")).tokens] | add / 1e5 | round / 10' "$runs/dense-1/metrics.jsonl"
}

steps() { jq -s '[.[] | select(has("loss")).step] | max' "$runs/dense-1/metrics.jsonl"; }

machine() {
  build/release/switchyard doctor | sed -n '/^device cpu/{n;s/^ *here: //p}'
}

cd "$root"
[ -f data/quickstart/dataset.json ] || die "the quickstart's dataset is not there" \
  "run launch/quickstart.sh first"
launch/install_packages.sh jq
allow_mpi_as_root
part "build" build release switchyard
part "train" train_all
part "write $page" write_page
print_parts
