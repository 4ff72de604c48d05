#!/usr/bin/env bash
# Prints the version of the workspace: that of `[workspace.package]` in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=$(sed -n '/^\[workspace\.package\]/,/^\[/ s/^version *= *"\(.*\)"$/\1/p' Cargo.toml)
if [ -z "$version" ]; then
  echo "Cargo.toml has no version in [workspace.package]" >&2
  exit 1
fi
echo "$version"
