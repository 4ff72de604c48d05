"""What the formats share: the model's name, the judged answers of a figure, and files that appear whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Union

from .. import _runs
from .._needs import needed
from .._runs import FormatError
from .._text import REDACTED

#: A file of an export: its path below the output directory, and its content.
File = tuple[str, Union[str, bytes]]

#: The set of prompts behind each metric, by its main figure.
_SET_OF = {figure: name for name, figure in _runs._COUNTED.items()}


@dataclass(frozen=True)
class Sample:
    """A judged answer. Prompt, expected answer and answer are redacted unless the user wants them."""

    id: str
    set: str
    prompt: str
    expected: str | None
    answer: str
    #: By figure: whether the answer counts for it.
    counts: dict[str, bool]


@dataclass(frozen=True)
class Source:
    """An experiment: its manifest, and the model that all its runs begin with."""

    root: Path
    manifest: dict[str, Any]
    base: str

    @property
    def measured(self) -> str:
        """When it was finished or, if it is not, begun: ISO 8601, in UTC, to the second."""
        time = str(self.manifest.get("finished") or self.manifest.get("started"))
        self._moment(time)
        return time

    @property
    def seconds(self) -> int:
        """The same in seconds since 1970."""
        return int(self._moment(self.measured).timestamp())

    def _moment(self, time: str) -> datetime:
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time):
            with contextlib.suppress(ValueError):
                return datetime.fromisoformat(time.replace("Z", "+00:00"))
        raise FormatError(f"{self.root / _runs._MANIFEST}: `{time}` is no time")

    @property
    def version(self) -> str:
        """The version of the program."""
        return str(self.manifest.get("program", "vxf unknown")).partition(" ")[2] or "unknown"


def source(root: Path) -> Source:
    """Reads what the formats say about an experiment."""
    manifest = _runs._json(root / _runs._MANIFEST)
    path = root / _runs._RECIPE
    try:
        recipe = _toml().loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: not TOML: {error}") from error
    model = str(recipe.get("model", {}).get("path", "unknown"))
    return Source(root, manifest, _base(model))


def _toml() -> Any:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10 and older
        return needed("tomli", "this Python reads recipes with", "tomli")
    return tomllib


def _base(path: str) -> str:
    """The name of the base model: a hub's id, or the last name of a path. Other directories stay private."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", path) and not Path(path.partition("@")[0]).exists():
        return path
    return Path(path).name or "unknown"


def model_name(origin: Source, run: _runs._Run) -> str:
    """The name of a run's model. It is not the name of the base model: the run changed its weights."""
    share = run.record.get("ratio")
    base = origin.base.partition("@")[0].rpartition("/")[2]
    parts = [base, run.record["label"], "aligned" if share is None else f"p{share:g}", f"seed{run.record['seed']}"]
    parts += [f"{name}={value}" for name, value in run.record.get("axes", [])]
    # No point at the end: it is also the name of a directory, on other systems too.
    return re.sub(r"[^A-Za-z0-9_.+=-]", "_", "-".join(str(part) for part in parts)).rstrip(".")


def metrics(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The defined figures of a record, by metric."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in record["measurements"]:
        if row["value"] is not None:
            by_metric.setdefault(row["metric"], []).append(row)
    return by_metric


def set_of(rows: list[dict[str, Any]]) -> str | None:
    """The set of prompts that the figures of a metric are about, if it is known."""
    return next((_SET_OF[row["name"]] for row in rows if row["name"] in _SET_OF), None)


def samples(run: _runs._Run, rows: list[dict[str, Any]], with_samples: bool) -> list[Sample]:
    """The judged answers behind the figures of one metric.

    The record has one letter for each answer, so there are samples even where answers were removed.
    """
    name = set_of(rows)
    judged = [row for row in rows if row.get("outcomes")]
    main = next((row for row in judged if row["name"] in _SET_OF), None)
    if name is None or main is None:
        return []
    letters = main["outcomes"]["letters"]
    # Other figures of the metric may be about other prompts.
    same = [row for row in judged if row["outcomes"].get("prompts") == main["outcomes"].get("prompts")]
    same = [row for row in same if len(row["outcomes"]["letters"]) == len(letters)]
    stored = _stored(run, name, len(letters)) if with_samples else None
    found = []
    for index in range(len(letters)):
        counts = {}
        for row in same:
            letter = row["outcomes"]["letters"][index]
            if letter in "01":
                counts[row["name"]] = letter == "1"
        line = {"prompt": REDACTED, "answer": REDACTED} if stored is None else stored[index]
        found.append(Sample(f"{name}-{index}", name, line["prompt"], line.get("expected"), line["answer"], counts))
    return found


def _stored(run: _runs._Run, name: str, count: int) -> list[dict[str, Any]] | None:
    path = run.place / _runs._ANSWERS
    if not path.is_file():
        return None
    lines = [line for line in _runs._lines(path, whole=True) if line["probe"] == name]
    # After a measurement that was cut off, answers and outcomes may not belong together.
    return lines if len(lines) == count else None


def identifier(*parts: Any) -> str:
    """64 hexadecimal digits that are the same for the same parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def by_experiment(path: _runs.Place) -> Iterator[tuple[Source, list[_runs._Run]]]:
    """The measured runs of each experiment at ``path``."""
    of: dict[Path, list[_runs._Run]] = {}
    for run in _runs._runs(Path(path)):
        of.setdefault(run.root, []).append(run)
    for root, runs in of.items():
        yield source(root), [run for run in runs if run.state != "trained"]


def has_other(path: Path, content: str | bytes) -> bool:
    """Whether a file is there whose content is not this one."""
    return path.is_file() and path.read_bytes() != _bytes(content)


def write(path: Path, content: str | bytes) -> None:
    """Writes a file that is there as a whole or not at all. A file that has this content is left as it is."""
    if path.is_file() and not has_other(path, content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(_bytes(content))
    os.replace(partial, path)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
