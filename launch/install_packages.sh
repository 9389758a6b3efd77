#!/usr/bin/env bash
# Installs what Switchyard needs on Debian 12 and is not there yet; with all there it only looks,
# without the network. Usage: launch/install_packages.sh [FURTHER_PACKAGE...]
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# cmake/dependencies.cmake finds the libraries among them.
packages=(
  g++ cmake ninja-build git pkg-config
  openmpi-bin libopenmpi-dev
  libdnnl-dev ocl-icd-opencl-dev  # the second: oneDNN's CMake file asks for it
  libyaml-cpp-dev
  libprotobuf-dev protobuf-compiler
  libsentencepiece-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libxxhash-dev zlib1g-dev libisal-dev
)

missing_packages() {
  comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u)
}

apt_get() {
  local command=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@")
  [ "$(id -u)" -eq 0 ] || command=(sudo "${command[@]}")
  "${command[@]}"
}

command -v dpkg-query > /dev/null || die "this is not Debian: there is no dpkg-query" \
  "install these by other means: ${packages[*]}" \
  "then: cmake --preset release && cmake --build --preset release"

mapfile -t missing < <(missing_packages "${packages[@]}" "$@")
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
[ "$(id -u)" -eq 0 ] || command -v sudo > /dev/null \
  || die "installing packages needs root, and there is no sudo" \
    "let root run: apt-get update && apt-get install --no-install-recommends ${missing[*]}" \
    "then start this script again"
apt_get update || die "apt-get update failed: is the network there?" "its own words stand above"
apt_get install --no-install-recommends "${missing[@]}" \
  || die "apt-get could not install: ${missing[*]}" \
    "its own words stand above; these names are Debian 12's"
