#!/usr/bin/env bash
# Fetches the translated manual pages of Debian in ten languages: the quickstart's text.
#
#   launch/fetch_manpages.sh DIRECTORY
#
# Makes DIRECTORY/<language>/man1/... of the ten languages with the most text. Packages are downloaded
# and unpacked, never installed: the system stays as it is (its dpkg may be told to leave manual
# pages out, so that installing them would bring nothing). Needs root or sudo only where
# `apt-get update` has never run. Does nothing when DIRECTORY is there; an interrupted run leaves none.
set -euo pipefail

languages=(de es fr ja nl pl ru tr uk zh)
packages=(manpages-de manpages-de-dev manpages-es manpages-es-dev manpages-fr manpages-fr-dev
  manpages-ja manpages-ja-dev manpages-nl manpages-nl-dev manpages-pl manpages-pl-dev
  manpages-ru manpages-ru-dev manpages-tr manpages-uk manpages-uk-dev manpages-zh)

if [ $# -ne 1 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: $0 DIRECTORY" >&2
  exit 2
fi
directory=${1%/}

if [ -f "$directory/packages.txt" ]; then
  echo "manual pages: $directory is complete, nothing to fetch"
  exit 0
fi
if [ -e "$directory" ]; then
  echo "error: $directory exists and was not made by this script" >&2
  echo "  give another directory, or remove it" >&2
  exit 3
fi
for tool in apt-get apt-cache dpkg-deb; do
  if ! command -v "$tool" > /dev/null; then
    echo "error: $tool is missing: the manual pages come from Debian's packages" >&2
    exit 3
  fi
done

known() { apt-get -qq --print-uris download "${packages[@]}" > /dev/null 2>&1; }

if ! known; then
  echo "manual pages: apt doesn't know the packages yet, running apt-get update"
  if [ "$(id -u)" -eq 0 ]; then
    apt-get -qq update
  elif command -v sudo > /dev/null; then
    sudo apt-get -qq update
  fi
  if ! known; then
    echo "error: apt knows no package ${packages[0]} or one of its kin" >&2
    echo "  run apt-get update as root, on Debian 12 with the main section, then this again" >&2
    exit 3
  fi
fi

# Everything happens beside the directory, which appears whole at the end or not at all.
mkdir -p "$(dirname "$directory")"
work=$(mktemp -d "$directory.fetching.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/packages" "$work/root" "$work/pages"
chmod 755 "$work" "$work/packages"

echo "manual pages: downloading ${#packages[@]} packages"
# As root, apt would drop its rights for the download and then not reach our directory.
(cd "$work/packages" && apt-get -qq -o APT::Sandbox::User="$(id -un)" \
  download "${packages[@]}")
for package in "$work"/packages/*.deb; do
  dpkg-deb -x "$package" "$work/root"
  # shellcheck disable=SC2016 # dpkg-deb fills these in, not the shell
  dpkg-deb --showformat='${Package} ${Version}\n' -W "$package" >> "$work/pages/packages.txt"
done

for language in "${languages[@]}"; do
  # The Chinese package holds its pages twice, in simplified and in traditional characters.
  source=$language
  if [ "$language" = zh ]; then source=zh_CN; fi
  if [ ! -d "$work/root/usr/share/man/$source" ]; then
    echo "error: the packages hold no pages in /usr/share/man/$source" >&2
    exit 3
  fi
  mv "$work/root/usr/share/man/$source" "$work/pages/$language"
done
chmod 755 "$work/pages"
mv -T "$work/pages" "$directory"

sed 's/^/  took /' "$directory/packages.txt"
for language in "${languages[@]}"; do
  echo "  $language: $(find "$directory/$language" -type f -name '*.gz' | wc -l) pages"
done
echo "manual pages: $(find "$directory" -type f -name '*.gz' | wc -l) pages in $directory"
