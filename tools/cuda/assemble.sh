#!/usr/bin/env bash
# Compiles the kernels to machine code for Ampere and Hopper. Prints a table: registers of a thread, bytes
# that a thread spills, and bytes of static shared memory of a block.
set -euo pipefail
cd "$(dirname "$0")/../.."

nvcc=$(tools/cuda/toolkit.sh)/bin/nvcc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for capability in 80 90; do
  for file in crates/cuda/kernels/*.cu; do
    "$nvcc" -std=c++17 -O3 -arch="sm_$capability" -cubin -Xptxas -v "$file" -o "$work/out" 2>"$work/log" \
      || { cat "$work/log" >&2; exit 1; }
    cat "$work/log"
  done >"$work/sm_$capability"
done
python3 - "$work/sm_80" "$work/sm_90" <<'PYTHON'
import re
import sys

found = {}
for at, path in enumerate(sys.argv[1:]):
    text = open(path).read()
    for kernel, about in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", text, re.S):
        number = lambda what: int((re.search(what, about) or [0, 0])[1])
        spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        one = (number(r"Used (\d+) registers"), spilled, number(r"(\d+) bytes smem"))
        found.setdefault(kernel, {})[at] = one
assert found and all(len(each) == 2 for each in found.values()), "a kernel is missing"
print(f"{'kernel':32} sm_80: registers spilled shared  sm_90: registers spilled shared")
for kernel, each in sorted(found.items(), key=lambda item: (-item[1][0][0], item[0])):
    print(f"{kernel:32}" + "".join(f"{each[at][0]:17}{each[at][1]:8}{each[at][2]:7}" for at in (0, 1)))
spilling = sum(any(each[at][1] for at in (0, 1)) for each in found.values())
print(f"{len(found)} kernels, {spilling} of which spill")
PYTHON
