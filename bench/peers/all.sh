#!/usr/bin/env bash
# Every way that bench/peers/switch_t5.py knows to compute the step of bench/step.yaml, with ours
# before, between and after: a table to pick P4's peers from. Seconds are medians of three steps.
# Usage: SWITCHYARD_BENCH_PYTHON=PYTHON bench/peers/all.sh, after bench/run.sh P4; about 6 minutes.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/common.sh"
cd "$root"
[ -n "${SWITCHYARD_BENCH_PYTHON-}" ] || die "SWITCHYARD_BENCH_PYTHON is not set" \
  "name a Python with PyTorch: bench/peers/switch_t5.py says what to install"

line() {
  jq -r --arg name "$1" '"| \($name) | \(.forward_backward_seconds * 1e3 | round) | "
    + "\(.optimizer_seconds * 1e3 | round) | \(.step_seconds.median * 1e3 | round) |"'
}

ours() {
  build/release/switchyard bench bench/step.yaml --json --warmup 1 --steps 3 \
    --set parallel.threads=2 | grep '^{' | line ours
}

theirs() {
  local output
  # A variant that PyTorch can't run is said, and the others go on.
  if output=$("$SWITCHYARD_BENCH_PYTHON" bench/peers/switch_t5.py --steps 3 "$@" 2>&1); then
    grep '^{' <<< "$output" | line "$*"
  else
    printf '| %s | fails: %s |\n' "$*" "$(tail -n 1 <<< "$output")"
  fi
}

printf '| what | forward + backward, ms | optimizer, ms | step, ms |\n|---|---|---|---|\n'
ours
for experts in batched grouped loop; do
  for dtype in float32 autocast bfloat16; do
    theirs --experts "$experts" --dtype "$dtype"
  done
done
ours
for dtype in float32 autocast bfloat16; do theirs --compile --dtype "$dtype"; done
theirs --threads 1
for dtype in float32 bfloat16; do theirs --variant hugging_face --dtype "$dtype"; done
ours
