#!/usr/bin/env bash
# Set up everything the project needs; quick when nothing has changed.
# PYTHON chooses the interpreter, PIP_ARGS is handed to pip (for example an index of CPU builds of
# torch), STEMGMD_NO_APT=1 leaves the system's packages alone.
set -euo pipefail
cd "$(dirname "$0")/.."

libraries=(libfluidsynth3)
browser=(chromium chromium-driver) # for the leaderboard page's own test alone
torch="torch==2.13.0" # any build of it: CUDA, or CPU alone by PIP_ARGS
# The catalogue's kits, but for those that only train LarsNet (`stemgmd kits fetch all`).
soundfonts=(timgm6mb-soundfont avldrums.lv2-soundfont fluid-soundfont-gm csound-soundfont
  hydrogen-drumkits hydrogen-data sonic-pi-samples)

find_python() {
  for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "setup: no Python >= 3.11 with venv among ${PYTHON:-python3.11, 3.12, 3.13 and python3}; install one" \
    "(Debian: python3-venv) or name one: make setup PYTHON=/path/to/python" >&2
  return 1
}

missing_packages() {
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

install_packages() {
  mapfile -t missing < <(missing_packages "${libraries[@]}" "${soundfonts[@]}" "${browser[@]}")
  [ ${#missing[@]} -eq 0 ] && return
  echo "setup: installing Debian packages (the drum kits are about 330 MB, the browser 120 MB): ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || echo "setup: apt-get update failed; going on with the lists at hand" >&2
  for package in "${missing[@]}"; do # one by one: a release of Debian or Ubuntu may lack some
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null </dev/null ||
      echo "setup: $package could not be installed; going on with what is here" >&2
  done
  [ -z "$(missing_packages libfluidsynth3)" ] ||
    echo "setup: without libfluidsynth3 SoundFont kits cannot be played, only Hydrogen's" >&2
  [ -z "$(missing_packages "${browser[@]}")" ] ||
    echo "setup: without ${browser[*]} the test of the leaderboard's page in a browser is skipped" >&2
}

explain_packages() {
  cat >&2 <<EOF
setup: FluidSynth and the drum kits are not installed from here (that needs apt and root). By hand:
  Debian, Ubuntu: sudo apt-get install --no-install-recommends ${libraries[*]} ${soundfonts[*]}
  macOS:          brew install fluid-synth
  Fedora:         sudo dnf install fluidsynth-libs
For the test of the leaderboard's page Chromium:
  Debian, Ubuntu: sudo apt-get install --no-install-recommends ${browser[*]}
  macOS:          brew install --cask chromium chromedriver
  Fedora:         sudo dnf install chromium chromedriver
Drum kits need no root: .venv/bin/stemgmd kits fetch (--mirror URL of a Debian mirror where there
is no apt). Going on with what is here; one kit comes with pretty_midi.
EOF
}

# Begins to install the locked dependencies and goes on, for apt has its own share to fetch.
begin_environment() {
  local python
  python=$(find_python)
  echo "setup: .venv with $("$python" --version), locked dependencies"
  # An environment that was cut short has a Python but no pip.
  .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
  # torch comes last: what else it needs is there by then, at the locked versions.
  # shellcheck disable=SC2086
  "${install[@]}" ${PIP_ARGS:-} --require-hashes --no-deps -r requirements.lock &&
    "${install[@]}" ${PIP_ARGS:-} "$torch" &
  locked=$!
  # In the background it does not hear Ctrl-C.
  trap 'kill "$locked" 2>/dev/null || :' EXIT
}

end_environment() {
  wait "$locked"
  trap - EXIT
  "${install[@]}" --no-deps --editable .
  echo "$state" >"$stamp"
  echo "setup: done; .venv/bin/stemgmd --help"
}

stamp=.venv/.stemgmd-setup
state=$(cat requirements.lock pyproject.toml scripts/setup.sh | cksum)
stale=$([ "$(cat "$stamp" 2>/dev/null)" = "$state" ] || echo yes)
# Python compiles what it imports; compiling all that is installed takes longer than installing.
install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile)
apt=$([ -z "${STEMGMD_NO_APT:-}" ] && command -v apt-get >/dev/null && command -v dpkg-query >/dev/null &&
  [ "$(id -u)" = 0 ] && echo yes) || :

# Debian's Python comes without venv, which then goes first.
if [ -n "$apt" ] && [ -z "${PYTHON:-}" ] && [ ! -x .venv/bin/python ] && ! find_python >/dev/null 2>&1; then
  libraries+=(python3-venv)
  install_packages
fi
[ -z "$stale" ] || begin_environment
if [ -n "$apt" ]; then
  install_packages
elif [ -z "${STEMGMD_NO_APT:-}" ] && [ -n "$stale" ] &&
  [ -n "$(missing_packages "${libraries[@]}" "${soundfonts[@]}" "${browser[@]}")" ]; then
  explain_packages
fi
[ -z "$stale" ] || end_environment
