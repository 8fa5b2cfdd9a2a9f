#!/usr/bin/env bash
# See to the programs that pip cannot install, given as PROGRAM=DEBIAN_PACKAGE pairs; what is there is
# left alone. Without root or apt-get it says what to install and exits 1.
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
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi

if ! type -P cargo >/dev/null; then
  echo "Please install Rust first, with rustfmt and clippy: https://rustup.rs says how." >&2
  echo "(Cargo.toml names the oldest version that will do; a distribution's own is often older.)" >&2
  exit 1
fi
