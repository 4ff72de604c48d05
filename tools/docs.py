#!/usr/bin/env python3
"""Checks the book without building it: links, tables, the contents, and commands and keys against docs/reference.md.

    python3 tools/docs.py

Every relative link must lead to a file, and its anchor to a heading. Every page must be in docs/SUMMARY.md. Every `vxf` line
in a `sh` block must use a command and flags of the reference, and every `toml` block that is a recipe its keys.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10 and older
    sys.exit("docs.py: needs Python 3.11 or newer, for tomllib")

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference.md"

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(\s*)```(\w*)\s*$")

#: Flags of every command.
EVERYWHERE = {"--help", "-h", "--version", "-V", "--quiet", "-q", "--verbose", "-v", "--log-format"}


def pages() -> list[Path]:
    outside = [
        ROOT / "README.md",
        ROOT / "examples/plugin-template/README.md",
        ROOT / "examples/custom-defense/README.md",
    ]
    return [*sorted(DOCS.rglob("*.md")), *(page for page in outside if page.is_file())]


def blocks(text: str) -> tuple[str, list[tuple[int, str, str]]]:
    """The text without its fenced blocks, and the blocks with line, language and content."""
    prose, found, inside = [], [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if inside is None and fence:
            inside = (number + 1, fence.group(2), [])
        elif inside is not None and line.strip() == "```":
            found.append((inside[0], inside[1], "\n".join(inside[2]) + "\n"))
            inside = None
        elif inside is not None:
            inside[2].append(line)
        prose.append(line if inside is None and not fence and line.strip() != "```" else "")
    return "\n".join(prose), found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mdBook and forges make them."""
    prose, _ = blocks(page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(page: Path, prose: str) -> list[str]:
    problems = []
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", prose)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists():
            problems.append(f"{target} leads nowhere")
        elif anchor and place.suffix == ".md" and anchor not in anchors(place):
            problems.append(f"{target}: there is no such heading")
    return problems


def tables(prose: str) -> list[str]:
    """The rows that have another number of cells than the head of their table: a `|` divides them, in code too."""
    problems, head = [], None
    for line in prose.splitlines():
        if not line.startswith("|"):
            head = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line.rstrip()))
        head = head or cells
        if cells != head:
            problems.append(f"a row of a table has {cells - 1} cells and not {head - 1}: {line[:60]}")
    return problems


def commands() -> dict[str, set[str]]:
    """The flags of each command in the reference."""
    found: dict[str, set[str]] = {}
    current = None
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### `vxf "):
            current = line.split("`")[1].split()[1]
            found[current] = set(EVERYWHERE)
        elif line.startswith("#"):
            current = None
        elif current and line.startswith("| "):
            found[current].update(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line.split(" | ")[0]))
    return found


def shell(content: str, known: dict[str, set[str]]) -> list[str]:
    problems = []
    for line in re.sub(r"\\\n\s*", " ", content).splitlines():
        line = line.split("   #")[0].split("  #")[0].strip()
        line = re.sub(r"^(cargo run --release( -p vxf)? -- )", "vxf ", line)
        line = re.sub(r"^\S*/vxf ", "vxf ", line)
        if not line.startswith("vxf "):
            continue
        words = shlex.split(line, comments=True)[1:]
        if words and words[0] in EVERYWHERE:
            continue
        if not words or words[0] not in known:
            problems.append(f"`{line}`: no such command")
            continue
        flags = [word.split("=")[0] for word in words[1:] if re.match(r"--?[a-zA-Z]", word)]
        problems += [f"`{line}`: {words[0]} has no {flag}" for flag in flags if flag not in known[words[0]]]
    return problems


def keys() -> dict[str, set[str]]:
    """The keys of each section of a recipe; the name of a plugin is a section of its own."""
    found: dict[str, set[str]] = {}
    current: list[str] = []
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        heading = re.match(r"### (.*)", line)
        if heading:
            title = heading.group(1)
            plugin = re.match(r"(\w+) `([\w-]+)`", title)
            current = [f"{plugin[1]} {plugin[2]}"] if plugin else re.findall(r"`\[([\w.]+)\]`", title)
            current = current or (["top"] if title == "At the top" else [])
            for name in current:
                found.setdefault(name, set())
            continue
        row = re.match(r"\| `([^`]+)` \|", line)
        if row:
            for name in current:
                found[name].add(row.group(1))
            if not current and (section := re.match(r"\[(\w+)\]$", row.group(1))):
                found.setdefault("sections", set()).add(section.group(1))
    return found


def plugin(kind: str, value: Any, known: dict[str, set[str]], place: str) -> list[str]:
    """The problems of a plugin that a recipe names, with its settings."""
    if isinstance(value, list):
        return [problem for each in value for problem in plugin(kind, each, known, place)]
    settings = value if isinstance(value, dict) else {"name": value}
    problems = []
    for name in str(settings.get("name", "")).split("+"):
        if not name:
            continue
        if f"{kind} {name}" not in known:
            problems.append(f"{place}: no {kind} `{name}`")
        elif "+" not in str(settings["name"]):
            extra = set(settings) - {"name"} - known[f"{kind} {name}"]
            problems += [f"{place}: {name} has no `{key}`" for key in sorted(extra)]
    return problems


#: Which kind of plugin each section names.
KINDS = {
    "defense": "defense",
    "fine_tune_defense": "defense",
    "post_tune_defense": "defense",
    "perturber": "perturber",
    "fine_tune_perturber": "perturber",
    "post_tune_perturber": "perturber",
    "metrics": "metric",
    "judges": "judge",
}

#: Metrics and judges that a page makes up, to show how one is written.
INVENTED = {"metric loops", "metric brevity"}


def recipe(content: str, known: dict[str, set[str]]) -> list[str]:
    try:
        value = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        return [f"not TOML: {error}"]
    if {"dependencies", "package", "dev-dependencies"} & set(value):
        return []
    problems = []
    for section, inner in value.items():
        if section in KINDS:
            problems += plugin(KINDS[section], inner, known, section)
        elif section == "data":
            source = inner.get("source", "files")
            allowed = known[f"source {source}"] | {"source"}
            for key, setting in inner.items():
                if key not in allowed:
                    problems.append(f"data has no `{key}`")
                elif isinstance(setting, dict) and source == "files" and key != "sampling":
                    extra = set(setting) - known["data.SET"]
                    problems += [f"data.{key} has no `{each}`" for each in sorted(extra)]
        elif section == "world":
            problems += [f"world has no `{key}`" for key in inner if key not in known["source world"]]
        elif section in known and isinstance(inner, dict):
            problems += [f"{section} has no `{key}`" for key in inner if key not in known[section]]
        elif section not in known["top"] | known["sections"] | {"extends", "schema_version"}:
            problems.append(f"a recipe has no `{section}`")
    return problems


def main() -> int:
    known, sections = commands(), keys()
    for invented in INVENTED:
        sections.setdefault(invented, {"times", "words"})
    problems = []
    contents = (DOCS / "SUMMARY.md").read_text(encoding="utf-8")
    listed = {(DOCS / target).resolve() for target in LINK.findall(contents)}
    for page in sorted(DOCS.rglob("*.md")):
        if page.name != "SUMMARY.md" and page.resolve() not in listed:
            problems.append(f"docs/SUMMARY.md: {page.relative_to(DOCS)} is missing")
    for page in pages():
        prose, found = blocks(page.read_text(encoding="utf-8"))
        name = page.relative_to(ROOT)
        problems += [f"{name}: {problem}" for problem in links(page, prose) + tables(prose)]
        for line, language, content in found:
            if language == "sh":
                problems += [f"{name}:{line}: {problem}" for problem in shell(content, known)]
            elif language == "toml":
                problems += [f"{name}:{line}: {problem}" for problem in recipe(content, sections)]
    print("\n".join(problems) if problems else f"{len(pages())} pages: links, commands and keys are right")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
