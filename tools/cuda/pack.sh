#!/usr/bin/env bash
# Puts what a GPU machine needs into one folder, target/gpu: the program, the timing example, and the
# tests of the operations and of threads that share a device, stripped; and that folder into an archive. Copy the repository with either
# there (tar -xJf target/gpu.tar.xz -C target), and run gpu.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools/cuda/build.sh --bin vxf --example timing
export CARGO_TARGET_DIR=$target/cuda CUDA_HOME=$target/cuda/lazy
export NVCC_BEHIND=$(tools/cuda/toolkit.sh)/bin/nvcc PATH="$PWD/tools/cuda/slim:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
tests=$(cargo test --release --locked -p vxf -p vxf-cuda -p vxf-nn --features vxf/cuda,vxf-cuda/cuda,vxf-nn/cuda \
  --test device --test ops --no-run --message-format json | python3 -c '
import json, sys
found = [json.loads(line) for line in sys.stdin if line.startswith("{")]
for it in found:
    if it.get("executable"):
        print(it["target"]["name"], it["executable"])')

mkdir -p "$target/gpu"
strip -o "$target/gpu/vxf" "$target/cuda/release/vxf"
strip -o "$target/gpu/timing" "$target/cuda/release/examples/timing"
while read -r name program; do strip -o "$target/gpu/$name" "$program"; done <<<"$tests"
tar -C "$target" -cJf "$target/gpu.tar.xz" gpu
du -sh "$target/gpu" "$target/gpu.tar.xz"
