#!/usr/bin/env bash
# Type-checks and lints the feature `cuda` with no CUDA on the machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

export PATH="$PWD/tools/cuda/standin:$PATH" CUDA_COMPUTE_CAP=80
# A folder of its own: it holds files without kernels, which no real build may find. CI, which makes no
# such build, gives its own folder and saves the time.
export CARGO_TARGET_DIR=${CUDA_CHECK_TARGET:-${CARGO_TARGET_DIR:-target}/cuda-check}
cargo clippy --locked -p vxf -p vxf-cuda -p vxf-nn -p vxf-testkit \
  --features vxf/cuda,vxf-cuda/cuda,vxf-nn/cuda,vxf-testkit/cuda --all-targets "$@" -- -D warnings
