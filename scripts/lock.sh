#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml and write requirements.lock, with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3.11}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet ${PIP_ARGS:-} uv
"$scratch/venv/bin/uv" pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes \
  --constraint <(grep -oE "torch==[0-9.]+" scripts/setup.sh) ${UV_ARGS:-} --no-emit-package torch --no-header \
  --no-annotate --quiet -o "$scratch/packages"
{
  echo "# Every dependency, direct and transitive, at one version with its hashes; written by \`make lock\`."
  echo "# Without torch: which build of it is taken is the machine's choice, and each has another hash (scripts/setup.sh)."
  # What a CUDA build of torch brings is its own choice too.
  awk '/^[^ ]/ { keep = !/^(nvidia|cuda|triton)/ } keep' "$scratch/packages"
} >"$scratch/requirements.lock"
mv "$scratch/requirements.lock" requirements.lock
