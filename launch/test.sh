#!/usr/bin/env bash
# Installs what is missing, builds the release preset and runs every test.
# Usage: launch/test.sh [CTEST_ARGUMENT...], for example launch/test.sh -R moe
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$root/launch/install_packages.sh"
build release
allow_mpi_as_root
cd "$root"
exec ctest --preset release --no-tests=error --parallel "$(nproc)" "$@"
