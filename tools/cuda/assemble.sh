#!/usr/bin/env bash
# Compiles the kernels to machine code for Ampere and Hopper, and tells what spills registers.
set -euo pipefail
cd "$(dirname "$0")/../.."

nvcc=$(tools/cuda/toolkit.sh)/bin/nvcc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for capability in 80 90; do
  for file in crates/cuda/kernels/*.cu; do
    "$nvcc" -std=c++17 -O3 -arch="sm_$capability" -cubin -Xptxas -v "$file" -o "$work/out" 2>"$work/log"
    awk -v where="sm_$capability $(basename "$file")" '
      /Compiling entry function/ { split($0, part, "\x27"); kernel = part[2]; kernels++ }
      /bytes spill stores/ && !/ 0 bytes spill stores/ { print where ": " kernel ":" $0 }
      END { print where ": " kernels " kernels" }' "$work/log"
  done
done
