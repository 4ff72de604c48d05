#!/usr/bin/env bash
# Builds `vxf` with CUDA: one program that uses a GPU where there is one, and starts everywhere.
#
#   tools/cuda/build.sh [CARGO ARGUMENTS]      such as --example timing
#
# Needs python3, a C++ compiler, and network access for the toolkit the first time. The kernels are
# made for CUDA_COMPUTE_CAP, 80 unless set: PTX that every GPU from Ampere on runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

toolkit=$(tools/cuda/toolkit.sh)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cuda
cudarc=$(cargo metadata --locked --format-version 1 --features vxf/cuda | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')
python3 tools/cuda/lazy.py "$cudarc" "$target/lazy/lib"

# Where cudarc looks for libraries; not the toolkit, whose own would be linked by name.
export CUDA_HOME=$target/lazy
export NVCC_BEHIND=$toolkit/bin/nvcc PATH="$PWD/tools/cuda/slim:$PATH"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CARGO_TARGET_DIR=$target
cargo build --release --locked -p vxf --features cuda "$@"
echo "built $target/release/vxf"
