#!/usr/bin/env bash
# Trains small models that differ in one thing each, three seeds of every one, and writes
# docs/results.md from their metrics: about 30 minutes on two cores, which should be idle.
# Usage: bench/results.sh, after launch/quickstart.sh, whose text it trains on. Finished runs in
# runs/results/ are kept, so that a second call only writes the page again.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"

runs=runs/results
seeds=(1 2 3)
rounds=7  # of timing
routers=(switch top_k loss_free noisy_top_k gshard hierarchical sinkhorn hash expert_choice soft)
page=docs/results.md

# train_group NAME CONFIG [OVERRIDE...]: one run a seed. An override may hold several, a line each.
train_group() {
  local name=$1 config=$2 seed
  shift 2
  for seed in "${seeds[@]}"; do
    printf '\n-- %s, seed %s\n' "$name" "$seed"
    train_one "$name-$seed" "$config" "seed=$seed" "$@"
  done
}

# train_one NAME CONFIG OVERRIDE...
train_one() {
  local name=$1 config=$2 override overrides=()
  shift 2
  while IFS= read -r override; do overrides+=(--set "$override"); done < <(printf '%s\n' "$@")
  on_two_ranks train "bench/results/$config.yaml" --set "run.dir=$runs" --set "name=$name" \
    "${overrides[@]}"
}

train_all() {
  local experts factor router
  train_group dense dense
  for experts in 2 4 8 16; do train_group "experts-$experts" mixture "moe.experts=$experts"; done
  train_group no-balance mixture moe.losses.load_balance.coef=0
  for factor in 1.0 1.25; do
    train_group "capacity-$factor" mixture "moe.capacity.train_factor=$factor"
  done
  for router in "${routers[@]}"; do
    # The mixture of eight experts above is that of `switch`.
    [ "$router" = switch ] || train_group "router-$router" mixture "$(overrides_of "$router")"
  done
  train_group top-1 mixture "$(both '{type: top_k, top_k: 1, normalize: false}')"
  train_group top-2 mixture "$(both '{type: top_k, top_k: 2}')" moe.capacity.train_factor=1.0 \
    moe.capacity.eval_factor=1.0
  train_group init-1.0 mixture model.init_scale=1.0
}

# Times compare only where they were taken side by side: short runs of every router in turn.
time_routers() {
  local round router
  for ((round = 1; round <= rounds; round++)); do
    for router in "${routers[@]}"; do
      printf '\n-- time of %s, round %s\n' "$router" "$round"
      train_one "time-$router-$round" mixture train.steps=40 train.evaluation_sequences=16 \
        schedule.warmup_steps=30 "$(overrides_of "$router")"
    done
  done
}

# The override that gives both stacks a router.
both() { printf 'moe.encoder.router=%s\nmoe.decoder.router=%s\n' "$1" "$1"; }

# overrides_of ROUTER: at equal work a token; experts of two choices a token are half as wide.
overrides_of() {
  local half=model.d_ff=192 no_balance=moe.losses.load_balance.coef=0
  case $1 in
    switch) both '{type: switch, jitter: 0.01}' ;;
    top_k) echo $half && both '{type: top_k, top_k: 2}' ;;
    loss_free)
      printf '%s\n' $half $no_balance
      both '{type: top_k, top_k: 2, score: sigmoid, bias_update_rate: 0.003}'
      ;;
    noisy_top_k)
      printf '%s\n' $half $no_balance moe.losses.importance.coef=0.03 moe.losses.load.coef=0.03
      both '{type: noisy_top_k, top_k: 2}'
      ;;
    gshard) echo $half && both '{type: gshard}' ;;
    hierarchical)
      echo $half
      both '{type: hierarchical, top_k: 2, groups: {count: 4, top: 2}, normalize: false}'
      ;;
    sinkhorn) echo $no_balance && both '{type: sinkhorn}' ;;
    hash) printf '%s\n' $no_balance moe.losses.router_z.coef=0 && both '{type: hash}' ;;
    expert_choice)
      echo 'moe.encoder.router={type: expert_choice, top_k: 1}'
      echo 'moe.encoder.capacity={train_factor: 1.0, eval_factor: 1.0}'
      ;;
    soft) echo 'moe.encoder.router={type: soft, slots_per_expert: 16}' ;;
  esac
}

# facts NAME: a line for each run: final validation loss, coefficient of variation of the load and
# dropped share in the last evaluation (means over layers), dropped share over the last 50 steps,
# seconds, executed GFLOP a step, router entropy in the last evaluation.
facts() {
  local seed
  for seed in "${seeds[@]}"; do
    jq -rs '
      def mean: if length == 0 then 0 else add / length end;
      [.[] | select(has("loss"))] as $steps
      | [.[] | select(has("validation.loss"))][-1] as $last
      | [$last["validation.loss"], ([$last["validation.moe"][].load_variation] | mean),
         $last["validation.dropped_share"], ([$steps[-50:][].dropped_share] | mean),
         ([$steps[].seconds] | add), ([$steps[-50:][].flops] | mean) / 1e9,
         ([$last["validation.moe"][].router_entropy] | mean)]
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
  cat <<TEXT

## Routers, at equal work a token

8 experts; those of routers that choose two experts a token are half as wide. \`loss_free\` is
\`top_k\` with sigmoid scores and a balancing bias instead of a loss; \`noisy_top_k\` has the losses
\`importance\` and \`load\`; \`expert_choice\` and \`soft\` are in the encoder, with \`switch\` in the
decoder. Columns as above; entropy is the router's, in nats, mean over tokens and layers (ln 8 = 2.08
is no preference); the last column is the time of a step over that of \`switch\`, each
that of the fastest tenth of its steps in $rounds short runs, taken in turn.

| router | validation loss | executed GFLOP a step | load variation | dropped, training (%) | dropped, evaluation (%) | entropy | step time |
|---|---|---|---|---|---|---|---|
TEXT
  router_rows
  cat <<TEXT

## One expert a token or two, at equal room

Experts of the full width, and as much room for each: a capacity factor of 2.0 for one choice a
token, of 1.0 for two. Two choices do up to twice the work.

| experts a token | validation loss | load variation | dropped, training (%) | dropped, evaluation (%) |
|---|---|---|---|---|
TEXT
  balance_row 1 top-1
  balance_row 2 top-2
  cat <<TEXT

## The initial scale, \`switch\`, 8 experts

\`model.init_scale\`; Fedus 2021 finds that 0.1 trains better and with less spread over seeds.

| scale | validation loss |
|---|---|
TEXT
  loss_row 0.1 experts-8
  loss_row 1.0 init-1.0
}

router_rows() {
  local router run
  for router in "${routers[@]}"; do
    run=router-$router
    [ "$router" != switch ] || run=experts-8
    printf '| `%s` | %s | %s | %s | %s | %s | %s | %s |\n' "$router" \
      "$(facts "$run" | spread 1 %.3f)" "$(facts "$run" | spread 6 %.2f)" \
      "$(facts "$run" | spread 2 %.2f)" "$(facts "$run" | spread 4 %.2f 100)" \
      "$(facts "$run" | spread 3 %.2f 100)" "$(facts "$run" | spread 7 %.2f)" \
      "$(relative_time "$router")"
  done
}

# relative_time ROUTER: of its step over that of `switch`.
relative_time() {
  echo "$(step_seconds "$1") $(step_seconds switch)" | awk '{ printf "%.2f", $1 / $2 }'
}

# step_seconds ROUTER: the fastest tenth of the steps of all rounds ends there; what else runs on the
# machine only makes steps slower. The first ten steps of a run are left out.
step_seconds() {
  jq -s '[.[] | select(has("loss") and .step > 10).seconds] | sort | .[length / 10 | floor]' \
    "$runs/time-$1-"*/metrics.jsonl
}

loss_row() { printf '| %s | %s |\n' "$1" "$(facts "$2" | spread 1 %.3f)"; }

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
part "time" time_routers
part "write $page" write_page
print_parts
