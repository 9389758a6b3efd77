#!/usr/bin/env bash
# A compiler launcher for nvcc: keeps what ptxas says of each kernel beside the object file, as
# FILE.o.ptxas, for tests/cuda_static. Usage: keep_ptxas_report.sh nvcc ARGUMENT...
set -euo pipefail
object=""
for ((i = 1; i <= $#; ++i)); do
  [ "${!i}" != -o ] || { next=$((i + 1)) && object=${!next}; }
done
[[ $object = *.o ]] || exec "$@"
result=0
"$@" -Xptxas -v 2> "$object.ptxas" || result=$?
# What isn't a report: warnings and errors.
grep -vE '^(ptxas info|[[:space:]]+[0-9]+ bytes (stack frame|gmem))|^ptxas \.|^$' "$object.ptxas" >&2 || true
exit $result
