#!/bin/bash
# Build the emulated device: libcuda.so.1, libcublas.so.13 and libcurand.so.10 in OUT_DIR.
#
# usage: build.sh OUT_DIR [--test]
#
# Needs bash, g++ (12 or later) and python3. From the environment:
#   CANDLE_KERNELS  the `src` folder of candle-kernels; by default looked up in the cargo registry
#   KERNELS         folders whose .cu files are compiled in; default: crates/cuda/kernels
#   KEEP_GOING=1    leave out a source that does not compile, rather than stop
#   JOBS            compilers at a time (2)
#   CXX, KERNEL_FLAGS  the compiler, and flags of yours for the kernels (say, -g)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
CXX=${CXX:-g++}
common=(-std=c++17 -fPIC -fvisibility=hidden -march=native -fno-strict-aliasing -fwrapv -w)
# Our kernels also look at the alignment of what they reach and at the bounds of their arrays.
checks=(-fsanitize=alignment,bounds -fno-sanitize-recover=all)

# Internal: compile one kernel source, unless its object is newer than all that goes into it.
if [[ ${1:-} == --one ]]; then
  source=$2 object=$3
  if [[ $4 == checked ]]; then flags=(-O2 "${checks[@]}"); else flags=(-O1); fi
  if [[ -f $object ]] && [[ -z $(find -L "$here/include" "$here/translate.py" "$here/build.sh" "$source" \
      "$(dirname "$source")" -maxdepth 3 -type f -newer "$object" \( -path "$source" -o -name '*.cuh' -o -name '*.h' \
      -o -name '*.hpp' -o -name limits -o -name '*.py' -o -name '*.sh' \) -print -quit) ]]; then exit 0; fi
  stem=${object%.o}
  rm -f "$object"
  fail() {
    echo "emulator: $source does not compile" >&2
    [[ -n ${KEEP_GOING:-} ]] || exit 1
    exit 0
  }
  "$CXX" "${common[@]}" -E -x c++ -DEMULATOR_TRANSLATE -I "$here/include" -I "$(dirname "$source")" \
    -include device.hpp "$source" -o "$stem.in.ii" || fail
  python3 "$here/translate.py" "$stem.in.ii" "$stem.ii" || fail
  "$CXX" "${common[@]}" "${flags[@]}" ${KERNEL_FLAGS:-} -c "$stem.ii" -o "$object" || fail
  exit 0
fi

out=${1:?usage: build.sh OUT_DIR [--test]}
mkdir -p "$out/objects"
out=$(cd "$out" && pwd)

if [[ -z ${CANDLE_KERNELS:-} ]]; then
  version=$(sed -n '/^name = "candle-kernels"$/{n;s/version = "\(.*\)"/\1/p;}' "$root/Cargo.lock" | head -1)
  for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-kernels-"${version:-0.11.1}"/src; do
    [[ -d $folder ]] && CANDLE_KERNELS=$folder
  done
fi
[[ -d ${CANDLE_KERNELS:-} ]] || echo "emulator: no sources of candle-kernels (cargo fetch brings them, or set CANDLE_KERNELS): left out" >&2

# source, object, checked or plain: one line each. Where two kernels have one name the first
# one counts: ours, not candle's.
list() {
  local name folder source
  echo "$here/selftest.cu $out/objects/selftest.o checked"
  for folder in ${KERNELS:-$root/crates/cuda/kernels}; do
    for source in "$folder"/*.cu; do
      [[ -f $source ]] && echo "$source $out/objects/own_$(basename "$source" .cu).o checked"
    done
  done
  if [[ -d ${CANDLE_KERNELS:-} ]]; then
    for name in affine binary cast fill indexing reduce sort ternary unary; do
      echo "$CANDLE_KERNELS/$name.cu $out/objects/candle_$name.o plain"
    done
  fi
  return 0
}

list | xargs -P "${JOBS:-2}" -L 1 "$0" --one
# The driver's object is small; it is made again only when a file it includes changed.
if [[ ! -f $out/objects/driver.o || -n $(find "$here" -name '*.[hc]pp' -newer "$out/objects/driver.o" -print -quit) ]]; then
  "$CXX" "${common[@]}" -O2 -I "$here/include" -c "$here/driver.cpp" -o "$out/objects/driver.o"
fi
objects=()
while read -r _ object _; do [[ -f $object ]] && objects+=("$object"); done < <(list)
link() { local name=$1; shift; "$CXX" -shared "${checks[@]}" -static-libubsan -Wl,-soname,"$name" "$@" -o "$out/$name.new" -ldl -pthread && mv "$out/$name.new" "$out/$name"; }
link libcuda.so.1 "$out/objects/driver.o" "${objects[@]}"
for pair in cublas:libcublas.so.13 curand:libcurand.so.10; do
  source=$here/${pair%%:*}.cpp library=${pair#*:}
  if [[ ! -f $out/$library || -n $(find "$source" "$here/include" -type f -newer "$out/$library" -print -quit) ]]; then
    "$CXX" "${common[@]}" -O3 -I "$here/include" -c "$source" -o "$out/objects/${pair%%:*}.o"
    link "$library" "$out/objects/${pair%%:*}.o"
  fi
done
cat "${objects[@]/%.o/.ii.names}" | sort > "$out/kernels.txt"
repeated=$(uniq -d "$out/kernels.txt")
[[ -z $repeated ]] || echo "emulator: kernels of one name in two sources, of which only the first (ours before candle's) is reached:" $repeated >&2
echo "emulator: $(wc -l < "$out/kernels.txt") kernels in $out"

if [[ ${2:-} == --test ]]; then
  "$CXX" -std=c++17 -O1 -w -I "$here/include" "$here"/selftest{,_streams}.cpp -o "$out/selftest" -ldl -pthread
  LD_LIBRARY_PATH=$out "$out/selftest"
fi
