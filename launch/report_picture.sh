#!/usr/bin/env bash
# Makes a picture of a run's report, as docs/images/report.png is one: the head, the loss, and what the
# experts of one layer specialise in.
#
#   launch/report_picture.sh RUN_DIRECTORY PICTURE.png
#
# Needs Debian's chromium package; makes the report again first.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 2 ] || die "usage: $0 RUN_DIRECTORY PICTURE.png"
command -v chromium > /dev/null || die "chromium is missing" "install Debian's package: chromium"
report=$("$root/build/release/switchyard" report "$1")
picture=$(realpath -m "$2")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the picture leaves out: all but the head, the loss and one layer's experts.
hidden='#optimisation,#experts,#config,#loss figure:nth-child(n+3)'
hidden+=',#specialisation figure:nth-child(n+4),footer'
sed "s|</style>|$hidden{display:none}</style>|" "$report" > "$work/page.html"
HOME=$work chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
  --hide-scrollbars --user-data-dir="$work/profile" --window-size=1160,1900 \
  --screenshot="$picture" "file://$work/page.html" 2> "$work/messages" \
  || { cat "$work/messages" >&2; die "chromium could not make the picture"; }
printf '%s: %d bytes\n' "$2" "$(stat -c %s "$picture")"
