#!/usr/bin/env bash
# Builds the Python wheel, installs it into a fresh environment outside of this tree, and tries what is in it.
#
#   tools/release/wheel.sh [DIRECTORY]      where the wheel goes; dist unless given
#
# Needs cargo, a C compiler and python3. It uses the `maturin` of PATH, or else installs one for this build, for which it
# needs network access. PYTHON names another interpreter.
set -euo pipefail
case ${1:-} in
  -*)
    echo "usage: tools/release/wheel.sh [DIRECTORY]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/../.."

out=$(realpath -m "${1:-dist}")
python=${PYTHON:-python3}
version=$(tools/release/version.sh)
work=$(mktemp -d)
notices=$PWD/python/vxf/THIRD-PARTY-NOTICES
trap 'rm -rf "$work" "$notices"' EXIT

if command -v maturin >/dev/null; then
  maturin=maturin
else
  "$python" -m venv "$work/maturin"
  "$work/maturin/bin/pip" install --quiet 'maturin>=1.7,<2'
  maturin=$work/maturin/bin/maturin
fi

# First into a file: a failure of cargo must not look like an empty list of crates.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo metadata --locked --format-version 1 --filter-platform "$target" >"$work/metadata.json"
"$python" tools/release/notices.py --root vxf "$work/metadata.json" >"$work/notices"
mv "$work/notices" "$notices"

# `locked` and `strip` are in pyproject.toml. Into a directory of its own, so that no older wheel is taken for the new one.
"$maturin" build --release --out "$work/wheels"
wheels=("$work"/wheels/*.whl)
if [ "${#wheels[@]}" -ne 1 ] || [ ! -f "${wheels[0]}" ]; then
  echo "expected one wheel, found: ${wheels[*]}" >&2
  exit 1
fi
wheel=${wheels[0]}

"$python" -m venv "$work/fresh"
# Without an index: the wheel must need nothing else.
"$work/fresh/bin/pip" install --quiet --no-index "$wheel"
bin=$work/fresh/bin

# From another directory, so that Python does not import the package of this tree.
cd "$work"
said=$("$bin/vxf" --version)
if [ "$said" != "vxf $version" ]; then
  echo "the program is \`$said\`, the workspace is $version" >&2
  exit 1
fi
listed=$("$bin/vxf" list)
# Plugins register themselves at link time, and a linker may drop them.
for plugin in vaccine harmful-score llama world; do
  if [[ "$listed" != *"$plugin"* ]]; then
    echo "\`vxf list\` lacks \`$plugin\`" >&2
    exit 1
  fi
done
"$bin/python" - "$version" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import vxf

place = pathlib.Path(vxf.__file__)
assert pathlib.Path(sys.prefix) in place.parents, f"imported from {place}, not from the wheel"
assert importlib.metadata.version("vxf") == sys.argv[1], importlib.metadata.version("vxf")
assert callable(vxf.experiment) and "pandas" not in sys.modules
for name in ("py.typed", "THIRD-PARTY-NOTICES"):
    assert (place.parent / name).is_file(), f"{name} is not in the wheel"
PYTHON

mkdir -p "$out"
cp "$wheel" "$out/"
echo "$out/$(basename "$wheel")"
