#!/usr/bin/env python3
"""Prints the licences of everything that is linked into a program, from the output of `cargo metadata`.

    cargo metadata --locked --format-version 1 --filter-platform TARGET | tools/release/notices.py --root vxf

Each crate is listed with its version and licence expression. Then comes each text that the crates' sources have, once,
with the crates that have it. It fails if a crate has neither an expression nor a text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Beginnings of the names of files with terms, in lower case.
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")

#: Endings of files with such names that are no texts.
OTHER = {".rs", ".toml", ".json", ".html", ".svg", ".png", ".py", ".sh"}

#: Folders with terms, in lower case.
FOLDERS = {"license", "licenses", "licence", "licences"}

RULE = "=" * 80


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metadata", nargs="?", default="-", help="a file with the metadata; stdin unless given")
    parser.add_argument("--root", default="vxf", help="the crate of the program")
    options = parser.parse_args()
    source = sys.stdin.read() if options.metadata == "-" else Path(options.metadata).read_text(encoding="utf-8")
    try:
        found = linked(json.loads(source), options.root)
    except ValueError as error:
        print(f"notices.py: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(notices(found, options.root))
    silent = [package["name"] for package in found if not expression(package) and not texts(package)]
    if silent:
        print(f"notices.py: no licence at all: {', '.join(silent)}", file=sys.stderr)
        return 1
    return 0


def linked(metadata: dict[str, Any], root: str) -> list[dict[str, Any]]:
    """The packages from elsewhere that the package `root` depends on, for building alone or tests left out.

    Procedural macros count: what they write is part of the program.
    """
    packages = {package["id"]: package for package in metadata["packages"]}
    members = set(metadata["workspace_members"])
    roots = [key for key in members if packages[key]["name"] == root]
    if not roots:
        raise ValueError(f"no package `{root}` in this workspace")
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    open_, seen = list(roots), set(roots)
    while open_:
        for dependency in nodes[open_.pop()]["deps"]:
            # A dependency without a kind is a normal one.
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                open_.append(dependency["pkg"])
    chosen = [packages[key] for key in seen - members]
    return sorted(chosen, key=lambda package: (package["name"], package["version"]))


def expression(package: dict[str, Any]) -> str:
    """The licence expression, in SPDX's form of today: an old slash means a choice."""
    return " OR ".join(part.strip() for part in (package["license"] or "").split("/")).strip()


def texts(package: dict[str, Any]) -> dict[str, str]:
    """The texts of its licences and notices, by their path in its source."""
    folder = Path(package["manifest_path"]).parent
    found = {}
    for path in candidates(folder, package["license_file"]):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # Line ends and blanks at ends differ between copies of one text.
        clean = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
        if clean.strip():
            found[path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name] = clean
    return found


def candidates(folder: Path, named: str | None) -> Iterator[Path]:
    """Files that may hold a licence or a notice."""
    if named is not None and (folder / named).is_file():
        yield (folder / named).resolve()
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if path.is_dir() and name in FOLDERS:
            yield from (inner for inner in sorted(path.iterdir()) if inner.is_file())
        elif path.is_file() and name.startswith(NAMES) and path.suffix.lower() not in OTHER:
            yield path


def notices(packages: list[dict[str, Any]], root: str) -> str:
    """The whole file."""
    owners: dict[str, list[str]] = {}
    lines = [f"Third-party software in {root}", "", f"{root} contains the following {len(packages)} crates.", ""]
    width = max((len(name(package)) for package in packages), default=0)
    without = []
    for package in packages:
        lines.append(f"  {name(package):<{width}}  {expression(package) or 'see its text below'}")
        found = texts(package)
        for text in found.values():
            owners.setdefault(text, [])
            if name(package) not in owners[text]:
                owners[text].append(name(package))
        if not found:
            without.append(package)
    if without:
        lines += ["", "The sources of these crates have no text of a licence. Their authors and terms are:", ""]
        for package in without:
            authors = ", ".join(package["authors"]) or "no authors named"
            where = package["repository"] or package["homepage"] or "no address named"
            lines.append(f"  {name(package)}: {expression(package)}; {authors}; {where}")
    lines += ["", "The texts, each once, with the crates whose sources have it:", ""]
    for text, names in owners.items():
        lines += [RULE, *wrapped(names), RULE, "", text, ""]
    return "\n".join(lines) + "\n"


def name(package: dict[str, Any]) -> str:
    return f"{package['name']} {package['version']}"


def wrapped(names: list[str]) -> Iterator[str]:
    """Names in lines of at most 80 characters."""
    line = ""
    for each in names:
        longer = f"{line}, {each}" if line else each
        if line and len(longer) > len(RULE) - 1:
            yield line + ","
            longer = each
        line = longer
    yield line


if __name__ == "__main__":
    sys.exit(main())
