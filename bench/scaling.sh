#!/usr/bin/env bash
# How the speed of a step (bench/scaling.yaml, optimizer excluded) changes with the number of experts,
# the tokens for each, the length of sequences, and ranks against threads: measures with `switchyard
# bench`, prints tables and draws each as docs/images/scaling-NAME.svg. About 5 minutes; nothing else
# should run.
# Usage: bench/scaling.sh [experts|tokens|length|ranks]..., by default all
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"
cd "$root"

program=build/release/switchyard
scratch=build/scaling
measuring=(bench bench/scaling.yaml --json --optimizer-excluded --warmup 2 --steps 5)

# point X COMMAND...: runs, and adds to $scratch/points: x, tokens/s, GFLOP/s.
point() {
  local x=$1
  shift
  "$@" > "$scratch/output" 2> "$scratch/log" || { tail -n 5 "$scratch/log" >&2; die "failed: $*"; }
  grep '^{' "$scratch/output" | jq -r --arg x "$x" \
    '[$x, .tokens_per_step / .forward_backward_seconds,
      .flops_per_step / .forward_backward_seconds * 1e-9] | @tsv' >> "$scratch/points"
}

# one_rank X OVERRIDE...
one_rank() {
  local x=$1 settings=(--set parallel.threads=2) override
  shift
  for override in "$@"; do settings+=(--set "$override"); done
  point "$x" "$program" "${measuring[@]}" "${settings[@]}"
}

# draw NAME TITLE X-AXIS UNIT COLUMN: the points' column over x as docs/images/scaling-NAME.svg, and
# as a table. Equal steps between the points, whose numbers stand beside them.
draw() {
  awk -F '\t' -v title="$2" -v axis="$3" -v unit="$4" -v column="$5" '
    function text(x, y, anchor, class, words) {
      printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", x, y,
             anchor, class, words
    }
    function digits(value) { return sprintf(value < 100 ? "%.1f" : "%.0f", value) }
    { name[NR] = $1; value[NR] = $column; if ($column > most) most = $column }
    END {
      left = 50; width = 560; top = 50; height = 170
      printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 270\" " \
             "font-family=\"sans-serif\" role=\"img\">\n<title>%s</title>\n<style>" \
             "text{fill:#333;font-size:12px}.head{font-size:14px}.line{stroke:#06c}.dot{fill:#06c}" \
             ".axis{stroke:#999}@media(prefers-color-scheme:dark){text{fill:#ddd}" \
             ".line{stroke:#6bf}.dot{fill:#6bf}}</style>\n", title
      text(left, 20, "start", "head", title ", " unit)
      printf "<path class=\"axis\" fill=\"none\" d=\"M%d %dH%d\"/>\n", left - 20, top + height,
             left + width + 20
      for (i = 1; i <= NR; ++i) {
        x = left + (NR > 1 ? (i - 1) * width / (NR - 1) : 0)
        y = top + height * (1 - value[i] / most)
        path = path (i == 1 ? "M" : "L") sprintf("%.1f %.1f", x, y)
        dots = dots sprintf("<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", x, y)
        text(x, y - 9, "middle", "value", digits(value[i]))
        text(x, top + height + 18, "middle", "name", name[i])
      }
      printf "<path class=\"line\" fill=\"none\" stroke-width=\"2\" d=\"%s\"/>\n%s", path, dots
      text(left + width / 2, top + height + 40, "middle", "axis-name", axis)
      print "</svg>"
    }' "$scratch/points" > "docs/images/scaling-$1.svg"
  printf '\n%s\n| %s | tokens/s | GFLOP/s |\n|---|---|---|\n' "$2" "$3"
  awk -F '\t' '{ printf "| %s | %.0f | %.1f |\n", $1, $2, $3 }' "$scratch/points"
}

experts() {
  local count
  for count in 4 8 16 32 64 128 256; do one_rank "$count" "moe.experts=$count"; done
  draw experts "Experts at 8,192 tokens a step" experts tokens/s 2
}

# Sequences of 8 tokens and 8 experts: as many tokens for each expert as sequences.
tokens() {
  local count
  for count in 1 2 4 8 16 32 64 128 256 512 1024; do
    one_rank "$count" data.length=8 "train.batch_sequences=$count" "moe.group_sequences=$count"
  done
  draw tokens "Tokens for each of 8 experts" "tokens per expert" GFLOP/s 3
}

length() {
  local tokens
  for tokens in 128 256 512 1024 2048 4096; do
    one_rank "$tokens" "data.length=$tokens" "train.batch_sequences=$((8192 / tokens))"
  done
  draw length "Length of sequences at 8,192 tokens a step" "tokens of a sequence" tokens/s 2
}

ranks() {
  point "1 x 1" "$program" "${measuring[@]}" --set parallel.threads=1
  one_rank "1 x 2"
  point "2 x 1" on_two_ranks "${measuring[@]}"
  draw ranks "Ranks x threads" "ranks x threads" tokens/s 2
}

command -v jq > /dev/null || die "jq is missing" "install Debian's package: jq"
build release switchyard
allow_mpi_as_root
mkdir -p "$scratch"
[ $# -gt 0 ] || set -- experts tokens length ranks
for curve in "$@"; do
  case $curve in
    experts | tokens | length | ranks) ;;
    *) die "there is no curve '$curve'" "experts, tokens, length, ranks" ;;
  esac
  : > "$scratch/points"
  "$curve"
done
