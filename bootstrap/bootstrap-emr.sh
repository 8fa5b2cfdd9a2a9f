#!/usr/bin/env bash
# EMR runs this on every node before it installs Spark. It creates a Python environment with Pomona from a
# wheelhouse on S3 (`make wheelhouse EMR=6.4.0` builds one), and tests it by featurizing a photo.
#
# Usage: bootstrap-emr.sh s3://BUCKET/PREFIX/emr-6.4.0 [--model s3://BUCKET/…/NAME.onnx] [--target FOLDER]
#
#   --model   download this model to TARGET/models too, and test it
#   --target  default: /opt/pomona, which every user of the cluster can read
#
# The environment is TARGET/venv, a link that is set only when the environment is complete and has featurized
# the photo. The script can therefore run again, even after an interrupted run. Spark's configuration uses
# TARGET/venv/bin/python. The node's own Python and EMR's PySpark stay unchanged, and nothing is downloaded
# from the internet. Runs as user hadoop; only the creation of TARGET needs sudo. Must work with bash 4.2,
# which Amazon Linux 2 has.
set -euo pipefail
umask 022
unset PYTHONHOME PYTHONPATH

doing="parsing the arguments"
what="" remedy=""
target=/opt/pomona wheelhouse="" model=""
log=/dev/null work="" unfinished=""

say() {
  printf '%(%T)T pomona: %s\n' -1 "$*"
}

# fail WHAT_HAPPENED WHAT_TO_DO
fail() {
  what=$1 remedy=$2
  exit 1
}

finish() {
  local status=$?
  trap - EXIT
  if [ "$status" -ne 0 ]; then
    {
      if [ -s "$log" ]; then sed 's/^/  | /' "$log"; fi
      echo "POMONA BOOTSTRAP FAILED on $(uname -n) while $doing."
      echo "  What happened: ${what:-a command ended with exit code $status; its output is above}."
      echo "  What to do: ${remedy:-fix that and start the cluster again, or run this script again on the node}."
    } >&2
  fi
  rm -rf ${work:+"$work"} ${unfinished:+"$unfinished"}
  exit "$status"
}
trap finish EXIT
trap 'fail "it was terminated" "run it again; it starts from the beginning"' HUP INT TERM

parse() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --model | --target)
        [ $# -ge 2 ] || fail "$1 has no value" "see the usage at the top of this script"
        if [ "$1" = --model ]; then model=$2; else target=${2%/}; fi
        shift
        ;;
      -*) fail "unknown option $1" "see the usage at the top of this script" ;;
      *)
        [ -z "$wheelhouse" ] || fail "two wheelhouses were given, $wheelhouse and $1" "give one"
        wheelhouse=${1%/}
        ;;
    esac
    shift
  done
  [[ $wheelhouse =~ ^s3://[^/]+/. ]] ||
    fail "'$wheelhouse' is not the S3 URI of a wheelhouse" "give it as the first argument: s3://BUCKET/PREFIX/emr-6.4.0"
  [[ -z $model || $model =~ ^s3://[^/]+/.*[^/]\.onnx$ ]] ||
    fail "'$model' is not the S3 URI of a model" "give it as s3://BUCKET/PREFIX/NAME.onnx"
  [[ $target = /* ]] || fail "--target '$target' is not an absolute path" "give a path that starts with /"
}

make_target() {
  doing="creating $target"
  local said
  if ! mkdir -p "$target" 2>/dev/null || [ ! -w "$target" ]; then
    said=$(sudo -n install -d -o "$(id -un)" -g "$(id -gn)" "$target" 2>&1) ||
      fail "user $(id -un) cannot write there, and sudo failed: $said" "run it as a user with permission, or give another --target"
  fi
  [ -e "$target/.lock" ] || [ -z "$(ls -A "$target")" ] ||
    fail "$target has other files in it" "give a --target of its own, because the script removes other files there"
  # With one run at a time, other files are leftovers of interrupted runs.
  exec 9>"$target/.lock"
  flock 9
  mkdir -p "$target/envs" "$target/models"
  local leftover
  for leftover in "$target"/work.* "$target"/envs/*; do
    [ "$leftover" = "$target/$(readlink "$target/venv" || true)" ] || rm -rf "$leftover"
  done
  work=$(mktemp -d "$target/work.XXXXXX")
  log=$work/log
  export TMPDIR=$work
}

# logged COMMAND…: keeps its output, to show it if the script fails.
logged() {
  "$@" >"$log" 2>&1
}

# fetch URI DESTINATION [OPTION…]
fetch() {
  local from=$1
  doing="downloading $from"
  type -P aws >/dev/null || fail "this node has no AWS CLI" "use an image of EMR, which has it, or put aws on the PATH"
  logged aws --cli-connect-timeout 20 s3 cp --only-show-errors "$@" || explain_s3 "$from"
  : >"$log"
}

explain_s3() {
  local bucket=${1#s3://} said
  bucket=${bucket%%/*} said=$(cat "$log")
  # S3 gives the same error for a missing bucket and a missing key, but listing tells them apart.
  [[ $said != *"(404)"* ]] || said+=$(aws s3 ls "s3://$bucket" 2>&1 >/dev/null || true)
  case "$said" in
    *"No space left on device"*) disk_is_full ;;
    *NoSuchBucket*) fail "bucket $bucket does not exist" "correct the URI in the bootstrap action's arguments" ;;
    *"(404)"* | *NoSuchKey*) fail "$1 does not exist" "correct the URI, or upload it: make wheelhouse, then aws s3 sync --delete" ;;
    *"ocate credentials"* | *InvalidAccessKeyId* | *SignatureDoesNotMatch* | *ExpiredToken* | *InvalidToken*)
      fail "this node has no valid AWS credentials" "give the cluster an instance profile: --ec2-attributes InstanceProfile=…"
      ;;
    *"(403)"* | *"(AccessDenied)"*)
      fail "this node is not allowed to read $1" "allow s3:GetObject and s3:ListBucket on bucket $bucket in the role of the cluster's instance profile"
      ;;
    *"Could not connect"* | *"onnect timeout"* | *"ead timeout"* | *"onnection was closed"*)
      fail "this node cannot reach S3" "give the subnet a route to S3 (a gateway endpoint is free) and allow outbound traffic to port 443 in the security group"
      ;;
    *) fail "the AWS CLI failed to download it; its output is above" "fix that and start the cluster again" ;;
  esac
}

disk_is_full() {
  fail "the disk of $target is full${1:+: $1}" "give the nodes a larger root volume (create-cluster --ebs-root-volume-size 30), or give a --target on another disk"
}

# verify FOLDER [FILE]: compares the checksum of the file, or of every file of the wheelhouse.
verify() {
  doing="verifying the download from $wheelhouse"
  cp "$work/SHA256SUMS" "$work/expected"
  if [ $# -eq 2 ]; then grep -F -- "  $2" "$work/SHA256SUMS" >"$work/expected" || true; fi
  local names
  if ! (cd "$1" && logged sha256sum --check --strict --quiet "$work/expected"); then
    names=$(sed -n 's/: FAILED.*//p' "$log" | sort -u | tr '\n' ' ')
    fail "these files are corrupted or missing: ${names:-SHA256SUMS}" \
      "upload the wheelhouse again: make wheelhouse, then aws s3 sync --delete to $wheelhouse"
  fi
}

# field NAME: prints a field of the heading of requirements.txt.
field() {
  sed -n "s/^# $1: //p" "$work/requirements.txt"
}

# Finds the node's Python of the wheelhouse's version. On EMR 6 and 7 that is python3; EMR 7 also has others.
find_python() {
  doing="looking for Python $1"
  [ "$(uname -m)" = x86_64 ] ||
    fail "this node is $(uname -m), but the wheels are for x86-64" "use instances without Graviton, such as m5.xlarge"
  local name present=""
  for name in "python$1" python3; do
    python=$(type -P "$name") || continue
    if [ "$("$python" -I -c 'import sys, venv; print("%d.%d" % sys.version_info[:2])' 2>&1)" = "$1" ]; then return; fi
    present+=" $name is $("$python" -V 2>&1);"
  done
  fail "the wheelhouse is for Python $1 ($(field release)), which this node does not have, or not with venv:${present:- it has no python3;}" \
    "use the wheelhouse of this cluster's EMR release: make wheelhouse EMR=…"
}

require_space() {
  doing="checking the free space of $target"
  local need have
  need=$(($(field disk-bytes) / 1024))
  have=$(df -k --output=avail "$target" | sed 1d)
  [ "$have" -ge "$need" ] || disk_is_full "$((need / 1024)) MiB needed, $((have / 1024)) MiB free"
}

# build WHEELS: creates a new environment; its path is in $unfinished.
build() {
  doing="creating a virtual environment"
  unfinished=$(mktemp -d "$target/envs/XXXXXX")
  chmod 755 "$unfinished"
  logged "$python" -I -m venv --without-pip "$unfinished" || explain_pip
  doing="installing the wheels"
  # The node's pip may be too old for these wheels, so the wheelhouse's pip installs them and itself.
  local pip=("$1"/pip-*.whl)
  export PIP_CONFIG_FILE=/dev/null
  logged "$unfinished/bin/python" -I "${pip[0]}/pip" --isolated --disable-pip-version-check --no-cache-dir install \
    --no-index --find-links "$1" --only-binary :all: --require-hashes -r "$work/requirements.txt" || explain_pip
  logged "$unfinished/bin/python" -I -m pip --isolated --disable-pip-version-check check || explain_pip
  cp -r "$1/check" "$work/SHA256SUMS" "$unfinished"
}

explain_pip() {
  case "$(cat "$log")" in
    *"No space left on device"*) disk_is_full ;;
    *"No matching distribution"*)
      fail "the wheelhouse has no wheel of $(sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' "$log") for $("$python" -V)" \
        "rebuild it for this cluster's EMR release: make wheelhouse EMR=…"
      ;;
    *) fail "pip failed; its output is above" "rebuild the wheelhouse: make wheelhouse EMR=…" ;;
  esac
}

# works VENV: imports the packages that have compiled parts, and featurizes the photo.
works() {
  doing="testing $1"
  MPLCONFIGDIR=$work logged "$1/bin/python" -I -c \
    'import matplotlib.pyplot, numpy, pandas, pyarrow.parquet, sklearn.manifold, pomona' &&
    featurizes "$1" "$1/check/model.onnx"
}

# featurizes VENV MODEL
featurizes() {
  doing="featurizing a photo with ${2##*/}"
  logged "$1/bin/python" -I - "$1/check/photo.jpg" "$2" <<'PYTHON'
import sys

import numpy
import pomona

with open(sys.argv[1], "rb") as file:
    photo = file.read()
featurizer = pomona.Featurizer(sys.argv[2])
features = featurizer.featurize([photo])
if features.shape != (1, featurizer.dim) or not numpy.isfinite(features).all():
    sys.exit(f"expected {featurizer.dim} finite features, got {features}")
print(f"model {featurizer.model_name} gives {featurizer.dim} features per photo")
PYTHON
}

main() {
  parse "$@"
  make_target
  say "wheelhouse $wheelhouse, target $target"
  fetch "$wheelhouse/SHA256SUMS" "$work/SHA256SUMS"

  if is_installed && works "$target/venv"; then
    say "$target/venv is already installed: $(cat "$log")"
  else
    install_wheelhouse
  fi
  if [ -n "$model" ]; then install_model; fi
  say "done in $SECONDS s: $target/venv/bin/python"
}

is_installed() {
  [ "$(cat "$work/SHA256SUMS")" = "$(cat "$target/venv/SHA256SUMS" 2>/dev/null)" ]
}

install_wheelhouse() {
  fetch "$wheelhouse/requirements.txt" "$work/requirements.txt"
  verify "$work" requirements.txt
  find_python "$(field python)"
  say "$("$python" -V) at $python"
  require_space
  fetch "$wheelhouse/" "$work/wheels" --recursive
  verify "$work/wheels"
  say "downloaded and verified; installing"
  build "$work/wheels"
  works "$unfinished" ||
    fail "the new environment does not work on this node; its output is above" "check that the wheelhouse is for this EMR release"
  say "$("$unfinished/bin/python" -I -m pip list --format freeze | tr '\n' ' ')"
  say "$(cat "$log")"

  doing="linking $target/venv"
  ln -s "envs/${unfinished##*/}" "$work/venv"
  mv -T "$work/venv" "$target/venv"
  unfinished=""
}

install_model() {
  local name=${model##*/}
  fetch "$model" "$work/$name"
  featurizes "$target/venv" "$work/$name" ||
    fail "$model does not work; the output is above" "check the file with \`pomona model info $name\`, and upload a working one"
  say "$(cat "$log")"
  mv "$work/$name" "$target/models/$name"
}

main "$@"
