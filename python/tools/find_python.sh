#!/usr/bin/env bash
# Print the path of the first CPython found among the versions given, best first: those of pyenv, then
# those on PATH. Says so loudly when it is not the best one; exits 1 when there is none.
#
# Usage: find_python.sh 3.7 3.8 3.9
set -euo pipefail

works() {
  "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

for version in "$@"; do
  for python in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3 "$(type -P "python$version")"; do
    if [ -x "$python" ] && works "$python" "$version"; then
      [ "$version" = "$1" ] || echo "*** WARNING: no Python $1 on this machine, using $version" >&2
      echo "$python"
      exit
    fi
  done
done
echo "*** WARNING: none of Python $* on this machine" >&2
exit 1
