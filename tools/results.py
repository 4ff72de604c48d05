#!/usr/bin/env python3
"""Prints the tables of docs/results.md: what `vxf report` says of finished experiments after the user's stage.

    python3 tools/results.py [--vxf target/release/vxf] DIR [DIR ...]
"""
from __future__ import annotations

import argparse
import subprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vxf", default="target/release/vxf", metavar="PROGRAM")
    parser.add_argument("experiments", nargs="+", metavar="DIR")
    args = parser.parse_args()
    for experiment in args.experiments:
        command = [args.vxf, "report", experiment, "--format", "markdown"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for section in text.split("\n### "):
            title, _, body = section.partition("\n")
            if title.startswith("After the user's"):
                table = [line for line in body.splitlines() if line.startswith("|")]
                # The paired differences, and what they are of, stay in the report.
                end = next((at for at, line in enumerate(table) if line.startswith("| n per run")), len(table) - 1)
                table = table[: end + 1]
                print(f"{title}:", "", *table, "", sep="\n")


if __name__ == "__main__":
    main()
