# shellcheck shell=bash
# What the scripts of launch/ and .ci/ share. Sourced, not run; each of them sets -euo pipefail.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# die WHAT [ADVICE...]: ends the script with an error in the form of the program's own.
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# build PRESET [TARGET...]: configures on the first call only; later ones compile what changed.
build() {
  local preset=$1
  shift
  cd "$root" || return
  [ -f "build/$preset/build.ninja" ] || cmake --preset "$preset"
  cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"}
}

# Open MPI refuses to start as root unless told twice; a container often has no other user.
allow_mpi_as_root() {
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
}

# minutes SECONDS: with one decimal, rounded.
minutes() {
  local tenths=$((($1 * 10 + 30) / 60))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# on_two_ranks ARGUMENT...: runs the program as two ranks, each bound to its own share of the cores.
# For small models: more than 8 threads a rank would wait for each other.
on_two_ranks() {
  local cores threads placing
  cores=$(env -u OMP_NUM_THREADS nproc)
  if [ "$cores" -ge 2 ]; then
    threads=$((cores / 2 < 8 ? cores / 2 : 8))
    placing=(--use-hwthread-cpus --bind-to hwthread --map-by "slot:PE=$threads")
  else
    threads=1
    placing=(--oversubscribe --bind-to none)
  fi
  mpirun -q -np 2 "${placing[@]}" "$root/build/release/switchyard" "$@" \
    --set "parallel.threads=$threads"
}

part_name=""
part_table=""

# part NAME COMMAND...: announces, runs and times one part of a script. If it fails, the script
# ends there with the command's exit code and the part's name.
part() {
  part_name=$1
  local began=$SECONDS
  shift
  printf '\n== %s\n' "$part_name"
  trap name_failed_part EXIT  # not `if ! "$@"`: a condition would switch off `set -e` inside
  "$@"
  trap - EXIT
  part_table+=$(printf '  %5s min  %s' "$(minutes $((SECONDS - began)))" "$part_name")$'\n'
}

name_failed_part() {
  local code=$?
  [ "$code" -eq 0 ] && return
  printf "\nerror: %s stopped in its part '%s' (exit code %d; docs/exit-codes.md)\n" \
    "$(basename "$0")" "$part_name" "$code" >&2
}

# print_parts: the minutes of every part so far.
print_parts() {
  printf '\n%s' "$part_table"
}
