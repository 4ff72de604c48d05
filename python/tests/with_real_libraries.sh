#!/usr/bin/env bash
# Checks trackers and formats with the libraries that read them:
#
#     python/tests/with_real_libraries.sh [EXPERIMENT]
#
# It makes a fresh virtual environment in a temporary directory, installs the newest versions from the package index, and
# runs `real_libraries.py` on an experiment made for the tests, or on EXPERIMENT, of which it makes a copy. It needs network
# access for the installation and for nothing else. PYTHON names another Python than python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/pip" install --quiet --disable-pip-version-check \
  inspect_ai tensorboard mlflow wandb trackio jsonschema pyarrow pandas
# For its schemas and, with Python 3.12 or newer, its validator. Most libraries that it wants are for other things.
"$bin/pip" install --quiet --disable-pip-version-check --no-deps --ignore-requires-python every-eval-ever

if [ $# -gt 0 ]; then cp -R "$1" "$work/experiment"; fi
cd "$work"
# No token and no setting of the user's: nothing may leave this machine.
env -i PATH="$bin:$PATH" HOME="$work/home" MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1 LANG=C.UTF-8 PYTHONPATH="$here/.." PYTHONDONTWRITEBYTECODE=1 \
  "$bin/python" "$here/real_libraries.py" "$work" ${1:+"$work/experiment"}
