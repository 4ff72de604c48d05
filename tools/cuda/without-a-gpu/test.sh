#!/usr/bin/env bash
# Runs what a GPU would run, on the emulated device: threads that share it, the operations against the
# CPU's, the laws of the test kit, parity with the recordings, several runs side by side, an experiment
# that is stopped and gone on with, how often a step waits, whether it takes the memory that was foretold,
# and what it launches.
#
#   tools/cuda/without-a-gpu/test.sh [PART]...     default: all
#   parts: threads operations laws parity runs experiment waits memory launches
set -euo pipefail
cd "$(dirname "$0")/../../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cuda-emulated
# Build scripts want an nvcc; the kernels that run are in the emulator's library.
export PATH="$PWD/tools/cuda/standin:$PATH" CUDA_COMPUTE_CAP=80 CARGO_TARGET_DIR=$target
export CUDA_HOME=$target/lazy CANDLE_NUM_THREADS=1
cudarc=$(cargo metadata --locked --format-version 1 --features vxf/cuda | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')
python3 tools/cuda/lazy.py "$cudarc" "$target/lazy/lib" >/dev/null
tools/cuda/without-a-gpu/build.sh "$target/emulator" --test

cargo build --locked -p vxf --features cuda --bin vxf --example timing
vxf=$target/debug/vxf timing=$target/debug/examples/timing
export VXF_TEST_DEVICE=cuda:0 EMULATED_CHECK=${EMULATED_CHECK:-}
on_the_device() { LD_LIBRARY_PATH=$target/emulator "$@"; }

# The test programs that a cargo command builds.
programs() {
  cargo test --locked --no-run --message-format json "$@" | python3 -c '
import json, sys
found = [json.loads(line).get("executable") for line in sys.stdin if line.startswith("{")]
print(*filter(None, found))'
}

# On two devices, of which the second is not the one that libraries take by themselves.
threads() {
  local program
  program=$(programs -p vxf -p vxf-cuda --features vxf/cuda,vxf-cuda/cuda --test device)
  VXF_TEST_DEVICE=cuda:0 on_the_device "$program"
  VXF_TEST_DEVICE=cuda:1 EMULATED_DEVICES=2 on_the_device "$program"
}

operations() {
  on_the_device "$(programs -p vxf -p vxf-nn --features vxf/cuda,vxf-nn/cuda --test ops)"
}

# Those of backbones, perturbers and defences.
laws() {
  local program
  for program in $(programs -p vxf -p vxf-testkit -p vxf-decoder -p vxf-vaccine --features vxf/cuda,vxf-testkit/cuda \
    --test contract --test decoder); do
    (cd plugins/decoder && on_the_device "$program")
  done
}

parity() {
  local folder dtype
  for folder in goldens recordings; do
    for dtype in f32 bf16; do
      on_the_device "$vxf" parity "tests/$folder" --device cuda:0 --dtype "$dtype"
    done
  done
}

# Two stages, stopped once on the way and gone on with; then the same in bf16.
experiment() {
  local scratch
  scratch=$(mktemp -d)
  local job=("$vxf" run --defense vaccine --device cuda:0 --seed 1 --harmful-ratio 0.2 --no-undefended
    --no-baseline --set world.alignment_samples=24 --set world.user_samples=24 --set fine_tuning.epochs=2
    --set alignment.epochs=4 --checkpoint-every 3)
  on_the_device "${job[@]}" --output-dir "$scratch/whole"
  on_the_device timeout --signal TERM 20 "${job[@]}" --output-dir "$scratch/parts" || true
  on_the_device "${job[@]}" --output-dir "$scratch/parts" >/dev/null
  (cd "$scratch/whole" && find vaccine -name '*.safetensors' -exec sha256sum {} +) >"$scratch/weights"
  (cd "$scratch/parts" && sha256sum --check --quiet "$scratch/weights")
  on_the_device "${job[@]}" --output-dir "$scratch/bf16" --dtype bf16
  rm -rf "$scratch"
}

# The default command trains several models, side by side where there are threads for it. Their weights do
# not depend on that.
runs() {
  local scratch threads
  scratch=$(mktemp -d)
  for threads in 1 3; do
    on_the_device "$vxf" run --defense vaccine --device cuda:0 --threads "$threads" --seed 1 --harmful-ratio 0.2 \
      --set world.alignment_samples=24 --set world.user_samples=24 --set fine_tuning.epochs=2 \
      --set alignment.epochs=2 --output-dir "$scratch/$threads"
  done
  (cd "$scratch/1" && find . -name '*.safetensors' -exec sha256sum {} +) >"$scratch/weights"
  test -s "$scratch/weights"
  (cd "$scratch/3" && sha256sum --check --quiet "$scratch/weights")
  rm -rf "$scratch"
}

# A step of either rule copies to the host once: what more steps take more, divided by their number.
waits() {
  local rule
  for rule in sft vaccine; do
    copies() {
      EMULATED_STATS=1 on_the_device "$timing" --shape S --layers 2 --batch 2 --seq 16 --rule "$rule" \
        --device cuda:0 --dtype bf16 --warmup 1 --steps "$1" 2>&1 >/dev/null
    }
    python3 - "$rule" "$(copies 1)" "$(copies 4)" <<'PYTHON'
import re
import sys

rule, *outputs = sys.argv[1:]
wanted = ("launches", "copies to the host", "synchronisations")
fewer, more = ({name: int(re.search(rf"(\d+) {name}", text)[1]) for name in wanted} for text in outputs)
each = {name: (more[name] - fewer[name]) / 3 for name in wanted}
print(f"{rule}, one step:", ", ".join(f"{count:g} {name}" for name, count in each.items()))
# The timing program waits once after each step, which is no part of the step.
assert each["copies to the host"] == 1 and each["synchronisations"] <= 2, "a step waits more than once"
PYTHON
  done
}

# What `vxf validate` foretells is within a tenth of the peak.
memory() {
  local train dtype recompute
  for train in lora "lora --dropout 0.1" full; do
    for dtype in f32 bf16; do
      for recompute in none block; do
        on_the_device "$timing" --shape S --layers 4 --batch 2 --seq 64 --device cuda:0 --train $train \
          --dtype "$dtype" --recompute "$recompute" --warmup 1 --steps 1 | python3 -c '
import json, sys
it = json.load(sys.stdin)
peak, share = it["gpu_peak_mib"], it["foretold_mib"] / it["gpu_peak_mib"]
print(it["train"], "dropout", it["dropout"], it["dtype"], it["recompute"], f"peak {peak:.1f} MiB, foretold {share:.0%} of it")
assert 0.9 <= share <= 1.1, "more than a tenth off"'
      done
    done
  done
}

# A table of what a step of Vaccine launches, by kernel.
launches() {
  tools/cuda/without-a-gpu/launches.py "$timing" "$target/emulator" --shape S --dtype bf16
}

for part in "${@:-threads operations laws parity runs experiment waits memory launches}"; do
  for name in $part; do
    echo "== $name"
    "$name"
  done
done
