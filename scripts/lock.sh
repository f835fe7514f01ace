#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml in a fresh environment and write requirements.lock.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3.11}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet ${PIP_ARGS:-} "torch==2.13.0"
"$scratch/venv/bin/pip" install --quiet ${PIP_ARGS:-} ".[dev]"
{
  echo "# Every dependency, direct and transitive, at one version; written by \`make lock\`."
  echo "# No hashes and no local labels such as +cpu: which build of torch is taken is the machine's choice."
  "$scratch/venv/bin/pip" freeze --exclude stemgmd-bench | grep -vE '^(nvidia|cuda|triton)' | sed -E 's/\+[a-z0-9.]+$//'
} >"$scratch/requirements.lock"
mv "$scratch/requirements.lock" requirements.lock
