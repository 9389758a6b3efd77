#!/usr/bin/env bash
# Holds the work of a training step without a clock: instructions, data accesses, bytes and FLOPs of
# the third step of each config in bench/counts/, against those in bench/counts.txt. Fails where a
# count is more than 5 % above, and where one is more than 5 % below: then it asks to be renewed.
# Usage: bench/counts.sh [--renew | --self-test] [PROGRAM]
#   --renew      writes bench/counts.txt: after a change that is worth its cost, and after a gain
#   --self-test  counts nothing: checks that counts 6 % off are found, and those 4 % off are not
#
# Counted by valgrind's callgrind on one thread without MPI, so neither the machine's processor nor
# other work on it counts: the portable loops (SWITCHYARD_CPU_ISA), the C library's plain functions
# (GLIBC_TUNABLES), and valgrind's own answers to what oneDNN asks the processor. The data are made
# here. Needs Debian's valgrind; takes half a minute.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"
cd "$root"

action=compare
case ${1-} in
  --renew | --self-test) action=${1#--} && shift ;;
esac
program=$root/build/release/switchyard
[ $# -eq 0 ] || program=$(realpath "$1")
scratch=build/counts
kept=bench/counts.txt
step=_ZN10switchyard9TrainStep3runEl  # TrainStep::run, as the linker names it
libraries=$(dirname "$program")/framework

# Token ids of a fixed sequence (Park and Miller's), 60 to 159 a document.
make_ids() {
  awk 'BEGIN {
    x = 12345
    for (line = 0; line < 400; ++line) {
      printf "{\"ids\": ["
      for (i = 0; i < 60 + line % 100; ++i) {
        x = x * 16807 % 2147483647
        printf "%s%d", (i ? ", " : ""), 2 + x % 400
      }
      print "]}"
    }
  }'
}

# Where each symbol comes from: the linker's name, the folder of framework/, the source file.
list_symbols() {
  find "$libraries" -name 'libswitchyard_*.a' -printf '%P\n' | LC_ALL=C sort \
    | while IFS= read -r library; do
        nm --defined-only "$libraries/$library" 2> /dev/null | awk -v folder="${library%/*}" '
          /\.o:$/ { file = $1; sub(/(\.cpp|\.cc)?\.o:$/, "", file); next }
          NF == 3 { print $3, folder, file }'
      done
}

# count CONFIG: trains three steps under callgrind; what the third executed stands in $scratch.
count() {
  local name=$1 counts=$scratch/$1.callgrind
  rm -rf "$scratch/runs/$name" "$counts"*
  env -i PATH=/usr/bin:/bin SWITCHYARD_CPU_ISA=portable \
    GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-FMA,-BMI1,-BMI2,-ERMS,-FSRM,-LZCNT,-MOVBE \
    valgrind --tool=callgrind --callgrind-out-file="$counts" --compress-strings=no \
    --compress-pos=no --demangle=no --toggle-collect="$step" --dump-after="$step" \
    --cache-sim=yes --I1=32768,8,64 --D1=32768,8,64 --LL=1048576,16,64 \
    "$program" train "bench/counts/$name.yaml" --progress none > "$scratch/$name.log" 2>&1 \
    || { cat "$scratch/$name.log" >&2; die "$name did not train under callgrind"; }
  [ -s "$counts.3" ] || die "callgrind saw no third step of $name" \
    "is $step still the name of TrainStep::run? then: nm $program | grep TrainStep"
}

# summarise CONFIG: a line for each count: the config, what is counted, the number.
#   bytes    64 for each line that a cache of 32 KiB in 8 ways (by index the same for any placement
#            of pages) fetches
#   phase    what TrainStep calls by these names, all that happens inside
#   folder   what the folder's own functions execute, without what they call
#   file, loop   the same of the CPU backend's files and, there, of each vector loop
summarise() {
  local name=$1
  printf '%s flops %s\n' "$name" \
    "$(grep -o '"flops":[0-9]*' "$scratch/runs/$name/metrics.jsonl" | sed -n '3s/.*://p')"
  awk -v name="$name" '
    FNR == NR { if (!($1 in folder)) { folder[$1] = $2; file[$1] = $3 } next }
    /^ob=/ { object = substr($0, 4); next }
    /^fn=/ { caller = substr($0, 4); next }
    /^cfn=/ { callee = substr($0, 5); next }
    /^calls=/ { inclusive = 1; next }
    /^[0-9]/ {
      if (inclusive) {
        inclusive = 0
        if (caller ~ /^_ZN10switchyard9TrainStep/ && callee !~ /^_ZN10switchyard9TrainStep/)
          parts["phase." phase(callee)] += $2
        next
      }
      instructions += $2
      accesses += $3 + $4
      lines += $6 + $7
      parts["folder." place()] += $2
      if (place() == "backends/cpu") parts[detail()] += $2
    }
    function phase(symbol) {
      if (symbol ~ /7forwardER/) return "forward"
      if (symbol ~ /8backwardER/) return "backward"
      if (symbol ~ /4stepER/) return "optimizer"
      return "other"
    }
    function place() {
      if (object ~ /switchyard$/) return caller in folder ? folder[caller] : "inline"
      # What oneDNN generates belongs to no file.
      return object == "???" || object ~ /dnnl/ ? "oneDNN" : "system_libraries"
    }
    function detail() {
      # A loop in an unnamed namespace: its length, then its name.
      if (file[caller] ~ /^vector_loops/ && match(caller, /_GLOBAL__N_1[0-9]+/))
        return "loop." substr(caller, RSTART + RLENGTH, substr(caller, RSTART + 12, RLENGTH - 12))
      return "file." file[caller]
    }
    END {
      printf "%s instructions %.0f\n%s accesses %.0f\n%s bytes %.0f\n", name, instructions, name,
             accesses, name, 64 * lines
      for (p in parts)
        if (parts[p] > instructions / 1000) printf "%s instructions.%s %.0f\n", name, p, parts[p]
    }' "$scratch/symbols" "$scratch/$name.callgrind.3" | LC_ALL=C sort
}

# compare KEPT NEW: prints every count beside the kept one; fails where they are far apart. A part of
# the instructions may move by a thousandth of them all besides; smaller ones are not kept.
compare() {
  awk '
    function slack(key) {
      split(key, part, " ")
      return part[2] ~ /\./ ? old[part[1] " instructions"] / 1000 : 0
    }
    /^#/ { next }
    FNR == NR { old[$1 " " $2] = $3; next }
    {
      key = $1 " " $2
      seen[key] = 1
      verdict = ""
      if (!(key in old)) { if ($3 > 2 * slack(key)) verdict = "NEW" }
      else if ($3 > 1.05 * old[key] + slack(key)) verdict = "ABOVE"
      else if ($3 < 0.95 * old[key] - slack(key)) verdict = "BELOW"
      change = old[key] > 0 ? sprintf("%+.1f %%", 100 * ($3 / old[key] - 1)) : ""
      printf "%-12s %-42s %12.0f %12.0f %9s %s\n", $1, $2, old[key], $3, change, verdict
      above += verdict == "ABOVE" || verdict == "NEW"
      below += verdict == "BELOW"
    }
    END {
      for (key in old) if (!(key in seen) && old[key] > 2 * slack(key)) { print key " is GONE"; ++below }
      if (above) print "\n" above " counts are more than 5 % above those of bench/counts.txt." \
        "\nBring them down, or, where the change is worth it, renew: bench/counts.sh --renew"
      if (below) print "\n" below " counts are more than 5 % below: hold the gain, by" \
        "\nrenewing bench/counts.txt: bench/counts.sh --renew"
      exit above + below > 0
    }' "$1" "$2"
}

# The functions that execute most: where to look when a count has grown.
print_functions() {
  printf '\nmost instructions of %s by function:\n' "$1"
  awk '
    /^fn=/ { caller = substr($0, 4); next }
    /^calls=/ { inclusive = 1; next }
    /^[0-9]/ { if (inclusive) inclusive = 0; else count[caller] += $2 }
    END { for (f in count) print count[f], f }' "$scratch/$1.callgrind.3" \
    | sort -rn | sed 12q | c++filt | cut -c1-110
}

# count_all: every config, at the same time; all counts stand in $scratch/counts.
count_all() {
  local name process counting=()
  command -v valgrind > /dev/null || die "valgrind is missing" "install Debian's package: valgrind"
  make_ids > "$scratch/ids.jsonl"
  "$program" data build bench/counts/switch_t5.yaml > "$scratch/data.log" 2>&1 \
    || { cat "$scratch/data.log" >&2; die "cannot make the data"; }
  list_symbols > "$scratch/symbols"
  for name in "${names[@]}"; do count "$name" & counting+=($!); done
  for process in "${counting[@]}"; do wait "$process"; done
  for name in "${names[@]}"; do summarise "$name"; done > "$scratch/counts"
}

# moved FACTOR KEY: the kept counts, those of the key times the factor.
moved() {
  awk -v factor="$1" -v key="$2" '$2 == key { $3 *= factor } { print }' OFMT=%.0f CONVFMT=%.0f "$kept"
}

self_test() {
  local key factor wanted found
  for key in flops accesses bytes instructions instructions.phase.forward; do
    for factor in 1.06 1.04 0.96 0.94; do
      wanted=0 found=0
      case $factor in 1.06 | 0.94) wanted=1 ;; esac
      moved "$factor" "$key" > "$scratch/moved"
      compare "$kept" "$scratch/moved" > /dev/null || found=1
      [ $found = $wanted ] || die "$key times $factor: found $found, wanted $wanted"
    done
  done
  printf 'counts that are off by more than 5 %% are found\n'
}

names=(switch_t5 decoder_lm)
mkdir -p "$scratch"
[ "$action" = renew ] || [ -f "$kept" ] || die "there is no $kept" "bench/counts.sh --renew makes it"
if [ "$action" = self-test ]; then
  self_test
  exit
fi
[ $# -gt 0 ] || build release switchyard
count_all
if [ "$action" = renew ]; then
  {
    printf '# What a training step executes, by bench/counts.sh --renew; never edited by hand.\n'
    cat "$scratch/counts"
  } > "$kept"
  printf '%s: %d counts\n' "$kept" "$(wc -l < "$scratch/counts")"
elif ! compare "$kept" "$scratch/counts"; then
  for name in "${names[@]}"; do print_functions "$name"; done
  exit 1
fi
