#!/bin/sh
# A failing rank ends the job within 5 s, with its exit code, and the reason is printed once.
#   failing_ranks.sh MODE REASON EXIT_CODE MPIRUN ARGUMENT...
set -u
mode=$1 reason=$2 expected=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$@" "$mode" "$work/stamp" >"$work/output" 2>&1
code=$?
ended=$(date +%s)
cat "$work/output"

failed=0
[ "$code" = "$expected" ] || { echo "exit code $code, not $expected"; failed=1; }
times=$(grep -c "$reason" "$work/output")
[ "$times" = 1 ] || { echo "'$reason' stands there $times times"; failed=1; }
took=$((ended - $(stat -c %Y "$work/stamp")))
[ "$took" -le 5 ] || { echo "the job went on for $took s"; failed=1; }
exit $failed
