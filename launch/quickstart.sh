#!/usr/bin/env bash
# From a fresh Debian 12 to a trained mixture of experts: installs what is missing, builds, makes a
# dataset of manual pages in many languages, trains configs/quickstart.yaml on two ranks that hold
# half the experts each, and evaluates. Run again, it does only what is left to do.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config=configs/quickstart.yaml
run=runs/quickstart
pages=data/manpages
switchyard=build/release/switchyard

cd "$root"
allow_mpi_as_root
part "install" launch/install_packages.sh
part "build" build release switchyard
part "fetch text" launch/fetch_manpages.sh "$pages"
part "build dataset" "$switchyard" data build "$config"
part "train" on_two_ranks train "$config"
part "evaluate" on_two_ranks eval "$config"
part "evaluate with shuffled inputs" on_two_ranks eval "$config" --shuffle-inputs
print_parts

cat <<TEXT

The run is in $run/:
  report.html     the whole run in one page, what each expert specialises in too
  metrics.jsonl   one line of JSON per step and evaluation
  checkpoints/    the model, its optimizer state, tokenizer and config
Next: cp $config my.yaml, change it, and: mpirun -np 2 $switchyard train my.yaml
The report, for any browser: $run/report.html
TEXT
