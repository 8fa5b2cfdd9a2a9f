#!/usr/bin/env bash
# What EMR runs on every node, before it installs Spark: make the Python environment of the jobs, with Pomona
# in it, from a wheelhouse on S3 (`make wheelhouse EMR=6.4.0` builds one), and try it on a photo.
#
# Usage: bootstrap-emr.sh s3://BUCKET/PREFIX/emr-6.4.0 [--model s3://BUCKET/…/NAME.onnx] [--target FOLDER]
#
#   --model   also fetch this model, into TARGET/models, and try it
#   --target  by default /opt/pomona: every user of the cluster can read it, whoever runs the job
#
# The environment is TARGET/venv, a link that is set once what it points at is complete and has featurized
# the photo; so a second run is fine, also after one that was cut off. Spark's configuration names
# TARGET/venv/bin/python. Neither the node's own Python nor the PySpark that EMR brings is touched, and nothing
# comes from the internet. Runs as user hadoop; only making TARGET takes sudo. Amazon Linux 2 has bash 4.2.
set -euo pipefail
umask 022
unset PYTHONHOME PYTHONPATH

doing="reading its arguments"
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
      echo "  What happened: ${what:-a command ended with exit code $status; what it said is above}."
      echo "  What to do: ${remedy:-put that right and start the cluster again, or run this script again on the node}."
    } >&2
  fi
  rm -rf ${work:+"$work"} ${unfinished:+"$unfinished"}
  exit "$status"
}
trap finish EXIT
trap 'fail "it was told to stop" "run it again: it starts afresh"' HUP INT TERM

parse() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --model | --target)
        [ $# -ge 2 ] || fail "$1 has no value" "give one: see the usage at the top of this script"
        if [ "$1" = --model ]; then model=$2; else target=${2%/}; fi
        shift
        ;;
      -*) fail "there is no option $1" "see the usage at the top of this script" ;;
      *)
        [ -z "$wheelhouse" ] || fail "there are two wheelhouses, $wheelhouse and $1" "give one"
        wheelhouse=${1%/}
        ;;
    esac
    shift
  done
  [[ $wheelhouse =~ ^s3://[^/]+/. ]] ||
    fail "'$wheelhouse' is not the S3 address of a wheelhouse" "give it as s3://BUCKET/PREFIX/emr-6.4.0, first of all arguments"
  [[ -z $model || $model =~ ^s3://[^/]+/.*[^/]\.onnx$ ]] ||
    fail "'$model' is not the S3 address of a model" "give it as s3://BUCKET/PREFIX/NAME.onnx"
  [[ $target = /* ]] || fail "--target '$target' is not an absolute path" "give one that starts with /"
}

make_target() {
  doing="making $target"
  local said
  if ! mkdir -p "$target" 2>/dev/null || [ ! -w "$target" ]; then
    said=$(sudo -n install -d -o "$(id -un)" -g "$(id -gn)" "$target" 2>&1) ||
      fail "user $(id -un) cannot write there, and sudo did not help: $said" "run it as a user who may, or give another --target"
  fi
  [ -e "$target/.lock" ] || [ -z "$(ls -A "$target")" ] ||
    fail "$target holds other things" "give a --target of its own: what lies around there is removed"
  # One run at a time: what lies around is then left from runs that were cut off.
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

# logged COMMAND…: what it prints is shown if all of this fails.
logged() {
  "$@" >"$log" 2>&1
}

# fetch URI DESTINATION [OPTION…]
fetch() {
  local from=$1
  doing="fetching $from"
  type -P aws >/dev/null || fail "there is no AWS CLI on this node" "EMR's own images have it: use one, or put aws on the PATH"
  logged aws --cli-connect-timeout 20 s3 cp --only-show-errors "$@" || explain_s3 "$from"
  : >"$log"
}

explain_s3() {
  local bucket=${1#s3://} said
  bucket=${bucket%%/*} said=$(cat "$log")
  # For an object, S3 answers a missing bucket and a missing key alike; for a listing it does not.
  [[ $said != *"(404)"* ]] || said+=$(aws s3 ls "s3://$bucket" 2>&1 >/dev/null || true)
  case "$said" in
    *"No space left on device"*) disk_is_full ;;
    *NoSuchBucket*) fail "there is no bucket $bucket" "correct the address in the bootstrap action's arguments" ;;
    *"(404)"* | *NoSuchKey*) fail "there is no $1" "correct the address, or put it there: make wheelhouse, then aws s3 sync --delete" ;;
    *"ocate credentials"* | *InvalidAccessKeyId* | *SignatureDoesNotMatch* | *ExpiredToken* | *InvalidToken*)
      fail "this node has no valid AWS credentials" "give the cluster an instance profile: --ec2-attributes InstanceProfile=…"
      ;;
    *"(403)"* | *"(AccessDenied)"*)
      fail "this node may not read $1" "allow s3:GetObject and s3:ListBucket on bucket $bucket in the role of the cluster's instance profile"
      ;;
    *"Could not connect"* | *"onnect timeout"* | *"ead timeout"* | *"onnection was closed"*)
      fail "S3 cannot be reached from this node" "give the subnet a route to S3 (a gateway endpoint for S3 costs nothing) and let the security group send to port 443"
      ;;
    *) fail "the AWS CLI could not fetch it; what it said is above" "put that right and start the cluster again" ;;
  esac
}

disk_is_full() {
  fail "the disk of $target is full${1:+: $1}" "give the nodes a larger root volume (create-cluster --ebs-root-volume-size 30), or give a --target on another disk"
}

# verify FOLDER [FILE]: that the file, or every file that the checksums name, is as it was built.
verify() {
  doing="checking what came from $wheelhouse"
  cp "$work/SHA256SUMS" "$work/expected"
  if [ $# -eq 2 ]; then grep -F -- "  $2" "$work/SHA256SUMS" >"$work/expected" || true; fi
  local names
  if ! (cd "$1" && logged sha256sum --check --strict --quiet "$work/expected"); then
    names=$(sed -n 's/: FAILED.*//p' "$log" | sort -u | tr '\n' ' ')
    fail "these are corrupted or missing: ${names:-SHA256SUMS}" \
      "upload the wheelhouse again: make wheelhouse, then aws s3 sync --delete to $wheelhouse"
  fi
}

# field NAME: from the heading of the list that pip installs from.
field() {
  sed -n "s/^# $1: //p" "$work/requirements.txt"
}

# The node's Python of the wheelhouse's version. On EMR 6 and 7 that is python3; 7 has others beside it.
find_python() {
  doing="looking for Python $1"
  [ "$(uname -m)" = x86_64 ] ||
    fail "this node is $(uname -m), and the wheels are for x86-64" "use instances without Graviton, such as m5.xlarge"
  local name there=""
  for name in "python$1" python3; do
    python=$(type -P "$name") || continue
    if [ "$("$python" -I -c 'import sys, venv; print("%d.%d" % sys.version_info[:2])' 2>&1)" = "$1" ]; then return; fi
    there+=" $name is $("$python" -V 2>&1);"
  done
  fail "the wheelhouse is for Python $1 ($(field release)), which this node has not, or without venv:${there:- it has no python3;}" \
    "use the wheelhouse of this cluster's EMR release: make wheelhouse EMR=…"
}

require_space() {
  doing="looking for room in $target"
  local need have
  need=$(($(field disk-bytes) / 1024))
  have=$(df -k --output=avail "$target" | sed 1d)
  [ "$have" -ge "$need" ] || disk_is_full "$((need / 1024)) MiB needed, $((have / 1024)) MiB free"
}

# build WHEELS: a new environment, its path in $unfinished.
build() {
  doing="making a virtual environment"
  unfinished=$(mktemp -d "$target/envs/XXXXXX")
  chmod 755 "$unfinished"
  logged "$python" -I -m venv --without-pip "$unfinished" || explain_pip
  doing="installing the wheels"
  # The node's pip may be too old to know these wheels: the wheelhouse's installs them, itself among them.
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
        "build it again, for this cluster's EMR release: make wheelhouse EMR=…"
      ;;
    *) fail "pip failed; what it said is above" "build the wheelhouse again: make wheelhouse EMR=…" ;;
  esac
}

# works VENV: all that has compiled parts can be loaded, and the photo has features.
works() {
  doing="trying $1"
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
    sys.exit(f"{features} is not {featurizer.dim} finite numbers")
print(f"{featurizer.dim} features of a photo by model {featurizer.model_name}")
PYTHON
}

main() {
  parse "$@"
  make_target
  say "wheelhouse $wheelhouse, target $target"
  fetch "$wheelhouse/SHA256SUMS" "$work/SHA256SUMS"

  if is_there && works "$target/venv"; then
    say "$target/venv is as it should be: $(cat "$log")"
  else
    install_wheelhouse
  fi
  if [ -n "$model" ]; then install_model; fi
  say "done in $SECONDS s: $target/venv/bin/python"
}

is_there() {
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
  say "fetched and checked; installing"
  build "$work/wheels"
  works "$unfinished" ||
    fail "the new environment does not work on this node; what it said is above" "check that the wheelhouse is for this EMR release"
  say "$("$unfinished/bin/python" -I -m pip list --format freeze | tr '\n' ' ')"
  say "$(cat "$log")"

  doing="setting $target/venv"
  ln -s "envs/${unfinished##*/}" "$work/venv"
  mv -T "$work/venv" "$target/venv"
  unfinished=""
}

install_model() {
  local name=${model##*/}
  fetch "$model" "$work/$name"
  featurizes "$target/venv" "$work/$name" ||
    fail "$model does not work; what it said is above" "see what \`pomona model info $name\` says of the file, and upload one that works"
  say "$(cat "$log")"
  mv "$work/$name" "$target/models/$name"
}

main "$@"
