#!/usr/bin/env bash
# Install the programs that pip cannot install, given as PROGRAM=DEBIAN_PACKAGE pairs, unless they exist.
# Without root or apt-get, print what to install and exit with 1.
#
# Usage: install_system_packages.sh cmake=cmake nasm=nasm cc=gcc
set -euo pipefail

packages=()
for pair in "$@"; do
  type -P "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
done

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ] || ! type -P apt-get >/dev/null; then
    echo "Please install these packages first, then run make again: ${packages[*]}" >&2
    exit 1
  fi
  echo "Installing ${packages[*]}"
  # One at a time: apt-get does not wait for another apt-get.
  exec 9>"${TMPDIR:-/tmp}/install_system_packages.lock"
  flock 9
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi

if ! type -P cargo >/dev/null; then
  echo "Please install Rust first, with rustfmt and clippy: https://rustup.rs" >&2
  echo "(Cargo.toml has the minimum version; a distribution's package is often older.)" >&2
  exit 1
fi
