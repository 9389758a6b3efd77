#!/usr/bin/env bash
# The figures of docs/performance.md, each a ratio of two things measured in one run: a line for each
# of P1 to P12, with both figures and the target, ending in met, short, or no-hardware.
# Usage: bench/run.sh [ID...], by default all: perhaps 15 minutes on an idle machine of 2 cores.
#   SWITCHYARD_BENCH_PYTHON   a Python with PyTorch, for P4 (bench/peers/switch_t5.py says which);
#                             without one P4 states our time alone
# Builds what it needs. Nothing else should run.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"
cd "$root"

program=build/release/switchyard
scratch=build/bench
threads=2
python=${SWITCHYARD_BENCH_PYTHON-}

# row ID TEXT VERDICT
row() { printf '%-3s %s  %s\n' "$1" "$2" "$3"; }

# holds EXPRESSION: met or short.
holds() { awk "BEGIN { print (($1) ? \"met\" : \"short\") }"; }

# compute EXPRESSION [FORMAT]
compute() { awk "BEGIN { printf \"${2:-%.6g}\", $1 }"; }

# bench_to FILE COMMAND...: its JSON line is added to the file.
bench_to() {
  local file=$scratch/$1
  shift
  "$@" > "$scratch/output" 2> "$scratch/log" || { tail -n 5 "$scratch/log" >&2; die "failed: $*"; }
  grep '^{' "$scratch/output" >> "$file"
}

# step_to FILE CONFIG [ARGUMENT...]: whole training steps of one rank with two threads. Steps that a
# machine gave less to, by the rate of multiply-adds measured beside them, than to the fastest of this
# script aren't comparable: they are measured again, three times at most.
step_to() {
  local file=$1 config=$2 rate
  shift 2
  for _ in 1 2 3 4; do
    : > "$scratch/one"
    bench_to one "$program" bench "$config" --json --warmup 1 --steps "${steps:-3}" \
      --set "parallel.threads=$threads" "$@"
    rate=$(of one .limit.flops)
    [ "$(holds "$rate >= 0.9 * $(cat "$scratch/rate" 2> /dev/null || echo 0)")" = short ] || break
    printf 'the machine is slower than before: %s GFLOP/s\n' "$(compute "$rate / 1e9" %.0f)" >&2
  done
  [ "$(holds "$rate <= $(cat "$scratch/rate" 2> /dev/null || echo 0)")" = met ] \
    || echo "$rate" > "$scratch/rate"
  cat "$scratch/one" >> "$scratch/$file"
}

# of FILE FILTER: the least over the file's runs of a number in each.
of() { jq -s "map($2) | min" "$scratch/$1"; }

# The step's state of AdamW is left out where its time is: with 64 experts it is large.
without_optimizer=(--optimizer-excluded --set 'optimizer={type: sgd}')

expert_products() { build/release/bench_expert_ffn "$@"; }

P1() { expert_products P1; }
P2() { expert_products P2; }
P3() { expert_products P3; }

# The peers that were fastest among all (docs/performance.md), each in turn with ours. The target
# counts on AMX: where there is none, and the step's FLOPs alone take longer at the rate of
# multiply-adds than the target allows the step, no program could reach it.
P4() {
  local ours ours_whole peers theirs theirs_whole limit verdict
  local kinds=("--variant hand --experts grouped --dtype float32"
    "--variant hand --compile --dtype float32" "--variant hand --dtype autocast"
    "--variant hugging_face --dtype float32")
  for _ in 1 2; do
    step_to P4 bench/step.yaml
    [ -z "$python" ] || for kind in "${kinds[@]}"; do
      # shellcheck disable=SC2086  # options are words
      (bench_to P4-peers timeout 180 "$python" bench/peers/switch_t5.py $kind --warmup 1 --steps 3 \
        --threads "$threads") || printf 'P4 goes on without: %s\n' "$kind" >&2
    done
  done
  ours=$(of P4 .forward_backward_seconds) ours_whole=$(of P4 .step_seconds.min)
  limit=$(compute "$(of P4 .flops_per_step) / $(of P4 .limit.flops)")
  if [ -z "$python" ]; then
    row P4 "step $(compute "$ours_whole" %.3f) s, forward + backward $(compute "$ours" %.3f) s; no \
PyTorch to compare with (SWITCHYARD_BENCH_PYTHON; >= 4x, whole step >= 2.5x)" short
    return
  fi
  theirs=$(of P4-peers .forward_backward_seconds) theirs_whole=$(of P4-peers .step_seconds.min)
  peers=$(jq -sr 'min_by(.step_seconds.min) | .variant + " " + .dtype
    + (if .compiled then " compiled" else "" end)' "$scratch/P4-peers")
  verdict=$(holds "$theirs >= 4 * $ours && $theirs_whole >= 2.5 * $ours_whole")
  if ! grep -qw amx_bf16 /proc/cpuinfo && [ "$(holds "$theirs >= 4 * $limit")" = short ]; then
    verdict=no-hardware
  fi
  row P4 "forward + backward $(compute "$ours" %.3f) s, PyTorch $(compute "$theirs" %.3f) s: \
$(compute "$theirs / $ours" %.2f)x (>= 4x; $(compute "$theirs / $limit" %.2f)x at the limit of \
$(compute "$limit" %.3f) s); whole step $(compute "$ours_whole" %.3f) s, PyTorch ($peers) \
$(compute "$theirs_whole" %.3f) s: $(compute "$theirs_whole / $ours_whole" %.2f)x (>= 2.5x)" "$verdict"
}

# more_weights ID WHAT MORE TWO-FILES: the step with `more` expert weights over the one without, at
# the tokens of bench/step.yaml and at four times as many. The model: the products take as long as
# they do in the smaller step by FLOP, and each weight more costs 8 bytes of memory traffic: read in
# bfloat16 forward and backward, its gradient written in float32.
more_weights() {
  local id=$1 what=$2 experts=$3
  local weights=$((experts * 4 * 2 * 512 * 2048)) small large flops bandwidth model ratio
  small=$(of "$id-small" .forward_backward_seconds) large=$(of "$id-large" .forward_backward_seconds)
  flops=$(compute "$(of "$id-large" .flops_per_step) / $(of "$id-small" .flops_per_step)")
  bandwidth=$(jq -s 'map(.limit.bytes_per_second) | max' "$scratch/$id-small" "$scratch/$id-large")
  model=$(compute "$flops + 8 * $weights / $bandwidth / $small")
  ratio=$(compute "$large / $small")
  # What more weights cost doesn't depend on the tokens: ratio - 1 falls as one over their number.
  local tokens many
  tokens=$(of "$id-many-small" .tokens_per_step)
  many=$(compute "$(of "$id-many-large" .forward_backward_seconds) / \
$(of "$id-many-small" .forward_backward_seconds)")
  row "$id" "$what: $(compute "$large" %.3f) s / $(compute "$small" %.3f) s = \
$(compute "$ratio" %.2f); model: $(compute "$flops" %.3f) by FLOPs + 8 bytes x \
$(compute "$weights / 1e6" %.0f) M weights at $(compute "$bandwidth / 1e9" %.1f) GB/s = \
$(compute "$model" %.2f): $(compute "$ratio / $model" %.2f) of it (<= 1.15); \
$(compute "$many" %.2f) at $tokens tokens, so 1.15 at about \
$(compute "$tokens * ($many > 1 ? $many - 1 : 0) / 0.15" %.0f)" "$(holds "$ratio <= 1.15 * $model")"
}

P5() {
  for _ in 1 2; do
    step_to P5-small bench/step.yaml "${without_optimizer[@]}"
    step_to P5-large bench/step.yaml "${without_optimizer[@]}" --set moe.experts=64
  done
  local steps=2 many=(--set train.batch_sequences=32)
  step_to P5-many-small bench/step.yaml "${without_optimizer[@]}" "${many[@]}"
  step_to P5-many-large bench/step.yaml "${without_optimizer[@]}" "${many[@]}" --set moe.experts=64
  more_weights P5 "64 experts over 8" 56
}

P6() {
  local dropless=(--set moe.encoder.capacity.overflow=dropless
    --set moe.decoder.capacity.overflow=dropless)
  for _ in 1 2; do
    step_to P6-small bench/dense_step.yaml "${without_optimizer[@]}"
    step_to P6-large bench/step.yaml "${without_optimizer[@]}" "${dropless[@]}"
  done
  local steps=2 many=(--set train.batch_sequences=32)
  step_to P6-many-small bench/dense_step.yaml "${without_optimizer[@]}" "${many[@]}"
  step_to P6-many-large bench/step.yaml "${without_optimizer[@]}" "${dropless[@]}" "${many[@]}"
  more_weights P6 "dropless over dense" 7
}

P7() {
  step_to P7 bench/step.yaml
  local parts share
  parts=$(jq -r '.phases | (.routing + .exchange + .combine) as $moe | ([.[]] | add) as $all
    | "\($moe * 1e3 | round) of \($all * 1e3 | round) ms"' "$scratch/P7")
  share=$(jq '.phases | 100 * (.routing + .exchange + .combine) / ([.[]] | add)' "$scratch/P7")
  row P7 "routing, exchange, combination: $parts: $(compute "$share" %.1f) % (<= 10 %)" \
    "$(holds "$share <= 10")"
}

P8() {
  local one two imbalance experts ratio
  for _ in 1 2; do
    step_to P8-one bench/step.yaml
    bench_to P8-two on_two_ranks bench bench/step.yaml --json --warmup 1 --steps 3 \
      --set optimizer.shard=true
  done
  one=$(of P8-one .step_seconds.median) two=$(of P8-two .step_seconds.median)
  imbalance=$(of P8-two .load_imbalance) experts=$(of P8-two .phases.experts)
  # The rank with most rows takes that much longer for its experts, and the other waits.
  ratio=$(compute "($two - $experts * ($imbalance - 1)) / $one")
  row P8 "2 ranks x 1 thread $(compute "$two" %.3f) s, 1 x 2 $(compute "$one" %.3f) s; imbalance \
$(compute "$imbalance" %.3f) of experts' $(compute "$experts" %.3f) s taken off: \
$(compute "$ratio" %.2f) (<= 1.15)" "$(holds "$ratio <= 1.15")"
}

# An optimizer's line of bench_optimizer: its name, ms, bandwidth, share, verdict; the limit is the
# faster of the passes that only scale and only read.
P9() {
  build/release/bench_optimizer > "$scratch/P9" 2> "$scratch/log" \
    || { cat "$scratch/log" >&2; return 1; }
  row P9 "$(awk '
    / GB\/s/ { match($0, /[0-9.]+ GB\/s/); rate_of = substr($0, RSTART, RLENGTH - 5) }
    /^(scaling|reading)/ { if (rate_of + 0 > limit + 0) limit = rate_of }
    /%/ {
      match($0, /[0-9]+ %/)
      name = $0
      sub(/  .*/, "", name)
      text = text sprintf("%s %s of %s GB/s = %s; ", name, rate_of, limit, substr($0, RSTART, RLENGTH))
    }
    END { print text "norm apart (>= 70 %)" }' "$scratch/P9")" \
    "$(grep -qE '^Ada.*short' "$scratch/P9" && echo short || echo met)"
}

# The test counts what steps after the second take, in one setting after the other.
P10() {
  local settings failed most passed=1
  build/release/test_allocations > "$scratch/P10" 2>&1 || passed=0
  settings=$(grep -c '^\[ RUN .*AreNoneAfterTheSecond' "$scratch/P10") \
    || { tail -n 5 "$scratch/P10" >&2; return 1; }
  failed=$(grep -c '^\[  FAILED  \] .*AreNoneAfterTheSecond.*ms)$' "$scratch/P10" || true)
  most=$(sed -n 's/^ *Which is: \([0-9]*\)$/\1/p' "$scratch/P10" | sort -n | tail -n 1)
  row P10 "heap allocations in steps 3 to 6: ${most:-0} at most, in $failed of $settings settings \
any (0)" "$(holds "$passed")"
}

# The first step's line of metrics.jsonl, in seconds from the start of the process; the least of 5.
P11() {
  local config=$scratch/tiny.yaml began seconds least=1000 times=""
  sed "s|data/tiny|$scratch/tiny|" configs/tiny.yaml > "$config"
  "$program" data build "$config" > "$scratch/log" 2>&1 || { cat "$scratch/log" >&2; return 1; }
  for _ in 1 2 3 4 5; do
    rm -rf "$scratch/runs"
    began=$EPOCHREALTIME
    "$program" train "$config" --progress none --set train.steps=1 \
      --set "run.dir=$scratch/runs" > "$scratch/log" 2>&1 &
    until grep -qs '"loss"' "$scratch/runs/tiny/metrics.jsonl"; do sleep 0.005; done
    seconds=$(compute "$EPOCHREALTIME - $began" %.3f)
    wait $!
    times+=" $seconds"
    least=$(compute "$seconds < $least ? $seconds : $least")
  done
  row P11 "start to first step $least s (of$times) over 1 s: $(compute "$least" %.2f) (<= 1)" \
    "$(holds "$least <= 1")"
}

# Documents of lines of this repository's text in random order: words as in real text.
make_text() {
  git ls-files '*.md' '*.h' '*.cpp' '*.sh' '*.py' '*.yaml' | xargs cat | awk '
    NF > 2 { line[++n] = $0 }
    END {
      srand(1)
      for (d = 0; d < 4000; ++d) {
        file = sprintf("%s/%04d.txt", folder, d)
        for (bytes = 0; bytes < 10000; ) {
          text = line[1 + int(n * rand())]
          print text > file
          bytes += length(text) + 1
        }
        close(file)
      }
    }' folder="$1"
}

P12() {
  local rate
  mkdir -p "$scratch/text"
  [ -f "$scratch/text/3999.txt" ] || make_text "$scratch/text"
  rm -rf "$scratch/text-data"
  "$program" data build configs/tiny.yaml --set "data.dir=$scratch/text-data" \
    --set data.tokenizer.vocabulary=8192 --set data.tokenizer.training_lines=20000 \
    --set "data.sources=[{label: text, path: $scratch/text, format: text}]" > "$scratch/log" 2>&1 \
    || { cat "$scratch/log" >&2; return 1; }
  rate=$(grep -o '[0-9.]* MB/s without' "$scratch/log" | cut -d ' ' -f 1)
  row P12 "dataset of $(du -sm --apparent-size "$scratch/text" | cut -f 1) MB of text: $rate MB/s \
over 8 MB/s: $(compute "$rate / 8" %.2f) (>= 1)" "$(holds "$rate >= 8")"
}

command -v jq > /dev/null || die "jq is missing" "install Debian's package: jq"
[ $# -gt 0 ] || set -- P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12
for id in "$@"; do
  [[ $id =~ ^P([1-9]|1[0-2])$ ]] || die "there is no $id" "P1 to P12"
done
mkdir -p "$scratch"
rm -f "$scratch"/P* "$scratch/rate"
targets=(switchyard)
for id in "$@"; do
  case $id in
    P[123]) targets+=(bench_expert_ffn) ;;
    P9) targets+=(bench_optimizer) ;;
    P10) targets+=(test_allocations) ;;
  esac
done
build release "${targets[@]}" > "$scratch/build.log" 2>&1 \
  || { tail -n 30 "$scratch/build.log" >&2; die "the build failed"; }
allow_mpi_as_root
printf '%s; %s, %d processors\n' "$(git log -1 --format='%h of %cs')" \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)"
began=$SECONDS failed=0
for id in "$@"; do
  # In the background, then waited for, so that `set -e` holds inside.
  "$id" &
  wait $! || { row "$id" "failed, see above" short; failed=1; }
done
printf '%s min\n' "$(minutes $((SECONDS - began)))"
exit $failed
