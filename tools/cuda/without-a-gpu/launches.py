#!/usr/bin/env python3
"""Counts what a training step asks of a device: launches by kernel, the bytes of their operands, copies, waits.

    launches.py TIMING EMULATOR [--of LAYERS POSITIONS] [OPTION OF TIMING]...

TIMING is the example `timing`, EMULATOR the folder of the emulated device. A step of a large model does not run
there, and need not: a count is a number for the model, one for each layer, one for each position and one for each
position and layer. Four small steps give these numbers, and they give the counts of the step asked for.

The bytes of a kernel are those of its operands, each counted once, also where it is read and written, or read
again. Those of products are exact; the sum that a product adds to counts twice.
"""

import argparse
import os
import re
import subprocess
from itertools import product

LAYERS, POSITIONS = (1, 2), (16, 32)
COPIES = {"copies to the host": "to the host", "copies to the device": "to the device"}


def totals(timing, emulator, options, layers, positions, steps):
    """What a run takes: by name a list of launches, bytes and operations."""
    environment = os.environ | {"EMULATED_STATS": "1", "EMULATED_TALLY": "1", "LD_LIBRARY_PATH": emulator}
    command = [timing, *options, "--device", "cuda:0", "--layers", layers, "--batch", 1, "--seq", positions]
    command += ["--warmup", 0, "--steps", steps]
    ran = subprocess.run([*map(str, command)], env=environment, text=True, capture_output=True)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    found = {}
    for name, *numbers in re.findall(r"tally: (.*): (\d+) launches, (\d+) bytes, (\d+) operations", ran.stderr):
        found[name] = [*map(int, numbers)]
    of_kernels = [name for name in found if not name.startswith(("(fill", "(copy"))]
    launches = int(re.search(r"(\d+) launches, \d+ copies", ran.stderr)[1])
    assert launches == sum(found[name][0] for name in of_kernels), "a launch is not in the tally"
    for name in COPIES:
        count, size = re.search(rf"(\d+) {name} \((\d+) bytes\)", ran.stderr).groups()
        found[name] = [int(count), int(size), 0]
    for name in ("synchronisations", "allocations"):
        found[name] = [int(re.search(rf"(\d+) {name}", ran.stderr)[1]), 0, 0]
    return found


def step(*of):
    """What one step takes: what a second one adds."""
    one, two = totals(*of, 1), totals(*of, 2)
    none = [0, 0, 0]
    return {name: [b - a for a, b in zip(one.get(name, none), of_two)] for name, of_two in two.items()}


def at(values, layers, positions):
    """The count at so many layers and positions; values are those at LAYERS and POSITIONS."""
    (a, b), (c, d) = values
    (l0, l1), (p0, p1) = LAYERS, POSITIONS
    y, x = (layers - l0) / (l1 - l0), (positions - p0) / (p1 - p0)
    return (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("timing")
    parser.add_argument("emulator")
    parser.add_argument("--of", nargs=2, type=int, default=(32, 1000), metavar=("LAYERS", "POSITIONS"))
    args, options = parser.parse_known_args()
    steps = {size: step(args.timing, args.emulator, options, *size) for size in product(LAYERS, POSITIONS)}
    names = sorted({name for each in steps.values() for name in each})

    def count(name, which, layers, positions):
        of = [[steps[size, long].get(name, [0, 0, 0])[which] for long in POSITIONS] for size in LAYERS]
        return at(of, layers, positions)

    rows = []
    for name in names:
        launches = [count(name, 0, layers, POSITIONS[0]) for layers in (0, 1)]
        assert launches[1] == count(name, 0, 1, POSITIONS[1]), f"{name}: launches depend on positions"
        whole = [count(name, which, *args.of) for which in range(3)]
        rows.append((name, launches[1] - launches[0], launches[0], *whole))
    outside = {*COPIES, "synchronisations", "allocations"}
    kernels = sorted((row for row in rows if row[0] not in outside and row[3]), key=lambda row: -row[4])
    print("A step of", *args.of, "layers and positions:", *options)
    print("| kernel | a layer | rest | launches | GB | TFLOP |")
    print("|---|---:|---:|---:|---:|---:|")
    total = ["sum", *(sum(row[at] for row in kernels) for at in range(1, 6))]
    for name, layer, rest, launches, size, operations in [*kernels, total]:
        flop = f"{operations / 1e12:.2f}" if operations else ""
        print(f"| {name.strip('()')} | {layer:g} | {rest:g} | {launches:,.0f} | {size / 1e9:.2f} | {flop} |")
    by_name = {row[0]: row for row in rows}
    for name in sorted(outside & by_name.keys()):
        _, layer, rest, count_, size, _ = by_name[name]
        about = f", {size:,.0f} bytes" if name in COPIES else ""
        print(f"{name}: {count_:,.0f} ({layer:g} a layer, {rest:g} else){about}")


main()
