#!/usr/bin/env bash
# Print the path of the first CPython that exists among the given versions, best first: pyenv's, then
# those on PATH. Warn if it is not the best one; exit with 1 if there is none.
#
# Usage: find_python.sh 3.7 3.8 3.9
set -euo pipefail

works() {
  "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

for version in "$@"; do
  for python in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3 "$(type -P "python$version")"; do
    if [ -x "$python" ] && works "$python" "$version"; then
      [ "$version" = "$1" ] || echo "*** WARNING: this machine has no Python $1, using $version" >&2
      echo "$python"
      exit
    fi
  done
done
echo "*** WARNING: this machine has none of Python $*" >&2
exit 1
