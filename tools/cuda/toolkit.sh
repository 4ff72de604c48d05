#!/usr/bin/env bash
# Installs the CUDA compiler and headers from Python wheels: no driver, no root, 400 MB.
#
#   tools/cuda/toolkit.sh [FOLDER]      default: .cuda in the repository
#
# Prints the folder of the toolkit. The version is pinned: kernels travel as PTX, which the driver
# compiles, and a driver refuses PTX from a newer toolkit than itself (13.0 goes with driver 580).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.cuda}

if ! ls "$folder"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc >/dev/null 2>&1; then
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --no-deps \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 nvidia-curand==10.4.0.35
fi
cd "$(echo "$folder"/lib/python3*/site-packages/nvidia/cu13)"
"$PWD/bin/nvcc" --version >/dev/null
pwd
