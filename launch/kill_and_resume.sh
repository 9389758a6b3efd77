#!/usr/bin/env bash
# Kills a small training run on two ranks again and again, each time starts it anew with the same
# command, and compares where it ends with a run that was left alone: weights and optimizer state
# byte for byte, the metrics of every step digit for digit. docs/reliability.md has the results.
# Usage: launch/kill_and_resume.sh [STEPS WRITES MPIRUN [SEED]]
#   STEPS   kill -9 of a random rank at a random instant (20; for a release 200)
#   WRITES  the same inside a checkpoint write (20; 200)
#   MPIRUN  kill -9 of mpirun itself (5; 50)
#   SEED    of everything random, to draw the same kills again; where they land depends on the machine
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

declare -A wanted=([step]=${1-20} [write]=${2-20} [mpirun]=${3-5}) done_kills=([step]=0 [write]=0 [mpirun]=0)
seed=${4-$((SRANDOM % 32768))}
RANDOM=$seed
program=$root/build/release/switchyard
scratch=build/kill_and_resume
steps=60
job="" ranks=()
starts=0 missed=0 runs=0
began=$SECONDS
exec {idle}<> <(:)  # never has anything to read

# pause MILLISECONDS: without starting a process.
pause() {
  local seconds
  printf -v seconds '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
  read -rt "$seconds" -u "$idle" || true
}

# alive PID: whether it is more than an entry that waits for its parent.
alive() {
  local stat
  { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
  stat=${stat##*) }
  [[ $stat != [ZX]* ]]
}

children_of() {
  local entry stat fields
  for entry in /proc/[0-9]*/stat; do
    { read -r stat < "$entry"; } 2> /dev/null || continue
    read -ra fields <<< "${stat##*) }"
    if [ "${fields[1]}" = "$1" ]; then
      entry=${entry#/proc/}
      printf '%s\n' "${entry%/stat}"
    fi
  done
}

end_job() {
  local pid
  for pid in $job "${ranks[@]}"; do kill -9 "$pid" 2> /dev/null || true; done
}
trap end_job EXIT

make_dataset() {
  rm -rf "$scratch"
  mkdir -p "$scratch"
  cat > "$scratch/kill.yaml" <<YAML
name: kill
model: {d_model: 64, d_kv: 16, d_ff: 192, heads: 2, encoder_layers: 2, decoder_layers: 2, dropout: 0.1}
moe:
  experts: 4
  group_sequences: 4
  encoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
  decoder: {layers: {every: 2}, router: {type: switch, jitter: 0.05}}
data:
  dir: $scratch/data
  inputs_length: 64
  tokenizer: {vocabulary: 512}
  validation_share: 0.2
  sources: [{label: prose, path: docs/how-to}, {label: code, path: launch, format: text}]
train: {steps: $steps, batch_sequences: 16, evaluate_every: 10, evaluation_sequences: 16}
checkpoint: {every: 3}
parallel: {threads: 1}
schedule: {type: constant, learning_rate: 0.003}
YAML
  "$program" data build "$scratch/kill.yaml" > "$scratch/data.log"
}

# start_job RUNS_DIR ASYNC
start_job() {
  mpirun -q -np 2 --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 "$program" train \
    "$scratch/kill.yaml" --progress none --set "run.dir=$1" --set "checkpoint.async=$2" \
    > "$scratch/output" 2>&1 &
  job=$!
}

lines() {
  local all=()
  { mapfile -t all < "$1"; } 2> /dev/null || true
  printf '%s' "${#all[@]}"
}

is_writing() { compgen -G "$scratch/killed/kill/checkpoints/*.writing-*" > /dev/null; }

# The step of the newest whole checkpoint; empty if there is none.
newest() {
  local path number best=""
  while IFS= read -r path; do
    number=$((10#${path: -8}))
    if [ -z "$best" ] || [ "$number" -gt "$best" ]; then best=$number; fi
  done < <(compgen -G "$scratch/killed/kill/checkpoints/step-????????")
  printf '%s' "$best"
}

# wait_for_ranks LINES: until the run has two ranks and has written more metrics than that; 0 does
# not wait for any. Fails if it ends before.
wait_for_ranks() {
  while alive "$job"; do
    mapfile -t ranks < <(children_of "$job")
    if [ "${#ranks[@]}" -eq 2 ]; then
      [ "$1" -eq 0 ] && return
      [ "$(lines "$scratch/killed/kill/metrics.jsonl")" -gt "$1" ] && return
    fi
    pause 10
  done
  return 1
}

# wait_for_write: until a checkpoint is being written, after passing over none to two of them.
wait_for_write() {
  local skipped
  for ((skipped = RANDOM % 3; skipped > 0; --skipped)); do
    while ! is_writing; do
      alive "$job" || return 1
      pause 1
    done
    while is_writing; do
      alive "$job" || return 1
      pause 1
    done
  done
  while ! is_writing; do
    alive "$job" || return 1
    pause 1
  done
}

# gone PID...: within three seconds.
gone() {
  local pid tries
  for ((tries = 0; tries < 300; ++tries)); do
    for pid in "$@"; do
      if alive "$pid"; then
        pause 10
        continue 2
      fi
    done
    return
  done
  return 1
}

# ended CODE...: waits for mpirun and checks how it ended.
ended() {
  local code=0 allowed
  wait "$job" 2> /dev/null || code=$?
  job=""
  for allowed in "$@"; do [ "$code" -ne "$allowed" ] || return 0; done
  cat "$scratch/output"
  die "the run ended with exit code $code"
}

# Where the last start began, in the program's words; nothing if it did not come so far.
where_it_started() {
  grep -oE 'resuming after step [0-9]+|starting from initial weights' "$scratch/output" || true
}

# check_start STEP SAID: a start goes on from the newest checkpoint, that of STEP; without any
# (empty), from the beginning.
check_start() {
  local right='starting from initial weights'
  [ -z "$1" ] || right="resuming after step $1"
  [ "$2" = "$right" ] || die "the run should have said '$right', not '$2'"
}

# start_and_kill KIND: starts the run and kills it in the way of KIND, unless it ends before.
start_and_kill() {
  local kind=$1 before victim=""
  local async=$((RANDOM % 2)) delay=$((RANDOM % 500)) rank=$((RANDOM % 2)) early=$((RANDOM % 4))
  local expected said
  expected=$(newest)
  # Lines of steps that are trained again go first, so that more lines are fresh steps.
  before=$(($(lines "$scratch/killed/kill/metrics.jsonl") + 1))
  if [ "$early" -eq 0 ] && [ "$kind" != write ]; then
    before=0 delay=$((delay * 3))  # while it starts, too
  fi
  start_job "$scratch/killed" "$([ "$async" = 0 ] && echo true || echo false)"
  starts=$((starts + 1))
  if wait_for_ranks "$before"; then
    victim=${ranks[$rank]}
    [ "$kind" != mpirun ] || victim=$job
    [ "$kind" != write ] || { delay=$((delay % 12)) && wait_for_write; } || victim=""
  fi
  if [ -z "$victim" ]; then
    ended 0
    return
  fi
  pause "$delay"
  local pids=("$job" "${ranks[@]}")
  kill -9 "$victim" 2> /dev/null || victim=""
  ended 0 137
  gone "${pids[@]}" || die "a process of the run was left behind after a kill of kind '$kind'"
  ranks=()
  said=$(where_it_started)  # nothing, where the kill came first
  [ -z "$said" ] || check_start "$expected" "$said"
  if [ -z "$victim" ]; then
    return
  elif [ "$kind" = write ] && ! is_writing; then
    missed=$((missed + 1))  # the write was faster
  else
    done_kills[$kind]=$((done_kills[$kind] + 1))
  fi
}

# What must not depend on when it was computed, of each step and evaluation.
metrics_of() {
  grep '^{"step":' "$1/kill/metrics.jsonl" \
    | sed -E 's/"(validation\.|counting_)?seconds":[^,}]*//g'
}

# Lets the run come to its end and compares.
complete() {
  local file last expected
  expected=$(newest)
  start_job "$scratch/killed" false
  starts=$((starts + 1))
  ended 0
  check_start "$expected" "$(where_it_started)"
  last=$(printf 'kill/checkpoints/step-%08d' "$steps")
  for file in "$scratch/whole/$last"/*.safetensors; do
    cmp "$file" "$scratch/killed/$last/${file##*/}" || die "the weights or states differ"
  done
  diff <(metrics_of "$scratch/whole") <(metrics_of "$scratch/killed") \
    || die "the metrics differ"
  runs=$((runs + 1))
  rm -rf "$scratch/killed"
}

# left KIND: how many kills of it are still to be made.
left() { printf '%d' $((wanted[$1] - done_kills[$1])); }

# pick: a kind of kill, by how many of it are left; empty when none is.
pick() {
  local total=$(($(left step) + $(left write) + $(left mpirun))) drawn kind
  [ "$total" -gt 0 ] || return 0
  drawn=$((RANDOM % total))
  for kind in step write mpirun; do
    if [ "$drawn" -lt "$(left "$kind")" ]; then
      picked=$kind
      return
    fi
    drawn=$((drawn - $(left "$kind")))
  done
}

allow_mpi_as_root
[ -x "$program" ] || build release switchyard
printf 'seed %d\n' "$seed"
make_dataset
start_job "$scratch/whole" false
ended 0
while picked="" && pick && [ -n "$picked" ]; do
  start_and_kill "$picked"
  # A run that came to its end has nothing more to kill.
  [ "$(newest)" != "$steps" ] || complete
done
complete
printf '%d kills of a rank at random instants, %d inside checkpoint writes, %d of mpirun: ' \
  "${done_kills[step]}" "${done_kills[write]}" "${done_kills[mpirun]}"
printf '%d starts, %d runs ended as the one that was left alone; no checkpoint lost, no process left\n' \
  "$starts" "$runs"
printf '(%d kills came too late to be inside a write; seed %d; %s min)\n' "$missed" "$seed" \
  "$(minutes $((SECONDS - began)))"
