#!/usr/bin/env bash
# Makes the files of a release: a tarball with the program, the wheel, and their digests.
#
#   tools/release/release.sh [DIRECTORY]    where the files go; dist unless given. It must be empty or new
#
# Needs cargo, a C compiler, binutils, GNU tar, python3, and network access unless all crates and `maturin` are there.
# It refuses uncommitted changes, because a release must be made from a commit; VXF_DIRTY=1 allows them, for a trial.
set -euo pipefail
case ${1:-} in
  -*)
    echo "usage: tools/release/release.sh [DIRECTORY]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/../.."

out=$(realpath -m "${1:-dist}")
version=$(tools/release/version.sh)
target=$(rustc -vV | sed -n 's/^host: //p')
name=vxf-$version-$target

if [ -n "$(git status --porcelain)" ] && [ -z "${VXF_DIRTY:-}" ]; then
  echo "there are uncommitted changes; VXF_DIRTY=1 makes a trial release all the same" >&2
  exit 1
fi
if [ -d "$out" ] && [ -n "$(ls -A "$out")" ]; then
  echo "$out is not empty; nothing is overwritten" >&2
  exit 1
fi

# Panics name source files. These must not be paths of this machine, which also makes builds of different machines alike.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$PWD=/vxf"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$PWD=/vxf"
# Other flags mean another build of everything: a directory of its own leaves the usual one as it is.
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/dist
export CARGO_TARGET_DIR
# The time of the commit, so that the same commit gives the same tarball.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# The linker drops what is not named, and differently in release than in CI's tests.
cargo test --release --locked -p vxf --test registered
cargo build --release --locked -p vxf
built=$CARGO_TARGET_DIR/release/vxf

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/$name
mkdir -p "$stage/bin" "$stage/share/man/man1" "$stage/share/bash-completion/completions" \
  "$stage/share/zsh/site-functions" "$stage/share/fish/vendor_completions.d"

# Line tables are for backtraces of developers; without them the program is a fraction of the size.
strip --strip-all -o "$stage/bin/vxf" "$built"
program=$stage/bin/vxf
said=$("$program" --version)
if [ "$said" != "vxf $version" ]; then
  echo "the program is \`$said\`, the workspace is $version" >&2
  exit 1
fi

"$program" completions bash >"$stage/share/bash-completion/completions/vxf"
"$program" completions zsh >"$stage/share/zsh/site-functions/_vxf"
"$program" completions fish >"$stage/share/fish/vendor_completions.d/vxf.fish"
"$program" man "$stage/share/man/man1"
cp README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$stage/"
# First into a file: a failure of cargo must not look like an empty list of crates.
cargo metadata --locked --format-version 1 --filter-platform "$target" >"$work/metadata.json"
python3 tools/release/notices.py --root vxf "$work/metadata.json" >"$stage/THIRD-PARTY-NOTICES"

# A machine's path in the program or its texts is a mistake of this script.
for path in "$cargo_home" "$PWD" "$work"; do
  if grep -rqF -- "$path/" "$stage"; then
    echo "a file of the release has the path $path:" >&2
    grep -rlF -- "$path/" "$stage" >&2
    exit 1
  fi
done

mkdir -p "$out"
tar --sort=name --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
  --owner=0 --group=0 --numeric-owner --mode=go+rX,go-w --mtime="@$SOURCE_DATE_EPOCH" \
  -C "$work" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

tools/release/wheel.sh "$out"

cd "$out"
sha256sum -- *.tar.gz *.whl >SHA256SUMS
sha256sum --check --quiet SHA256SUMS
ls -l
