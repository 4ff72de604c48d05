#!/usr/bin/env bash
# Puts what a GPU machine needs into one folder, target/gpu: the program, the timing example and the
# tests of the operations, stripped; and that folder into an archive. Copy the repository with either
# there (tar -xJf target/gpu.tar.xz -C target), and run gpu.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools/cuda/build.sh --bin vxf --example timing
export CARGO_TARGET_DIR=$target/cuda CUDA_HOME=$target/cuda/lazy
export NVCC_BEHIND=$(tools/cuda/toolkit.sh)/bin/nvcc PATH="$PWD/tools/cuda/slim:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
ops=$(cargo test --release --locked -p vxf -p vxf-nn --features vxf/cuda,vxf-nn/cuda --test ops --no-run --message-format json |
  python3 -c '
import json, sys
found = [json.loads(line).get("executable") for line in sys.stdin if line.startswith("{")]
print(*filter(None, found))')

mkdir -p "$target/gpu"
strip -o "$target/gpu/vxf" "$target/cuda/release/vxf"
strip -o "$target/gpu/timing" "$target/cuda/release/examples/timing"
strip -o "$target/gpu/ops" "$ops"
tar -C "$target" -cJf "$target/gpu.tar.xz" gpu
du -sh "$target/gpu" "$target/gpu.tar.xz"
