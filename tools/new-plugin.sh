#!/usr/bin/env bash
# Makes a crate for a method of your own from examples/plugin-template, as `cargo generate` would.
#
#   tools/new-plugin.sh NAME [DIRECTORY]    such as `tools/new-plugin.sh my-defense`; DIRECTORY is beside vxf unless given
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: tools/new-plugin.sh NAME [DIRECTORY]" >&2
  exit 2
fi
name=$1
root=$(realpath "$(dirname "$0")/..")
place=$(realpath -m "${2:-$root/../$name}")

# It becomes the name of a crate and of a method: words of small letters and digits, joined by hyphens.
if [[ ! $name =~ ^[a-z][a-z0-9]*(-[a-z0-9]+)*$ ]]; then
  echo "\`$name\` is no name for a crate and a method; write it as in my-defense" >&2
  exit 2
fi
if [ -e "$place" ]; then
  echo "$place already exists; nothing is overwritten" >&2
  exit 2
fi

mkdir -p "$place"
cp -R "$root/examples/plugin-template/." "$place/"
rm -f "$place/cargo-generate.toml"
# The template expects vxf beside the crate. Only an instance knows where it is.
vxf=$(realpath --relative-to="$place" "$root")
find "$place" -type f -exec sed -i \
  -e "s|{{project-name}}|$name|g" \
  -e "s|{{crate_name}}|${name//-/_}|g" \
  -e "s|path = \"\.\./vxf/|path = \"$vxf/|" {} +

echo "$place is a crate with the method \`$name\`"
echo "  cd $place && cargo test && cargo run --release -- run --defense $name"
