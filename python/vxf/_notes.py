"""What a tracker has of an experiment's runs, in one small file.

It is written after the tracker has taken the values: if this process is killed between the two, these values are sent once
more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from . import _runs
from ._runs import FormatError

_VERSION = 1


@dataclass
class Sent:
    """What a tracker has of one run."""

    handle: str
    #: For each kind of line, the last step and the figures that were sent for it.
    last: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    settings: bool = False
    figures: str = ""
    answers: str = ""

    def has(self, kind: str, step: int, figure: str) -> bool:
        """Whether a value was sent. A resumed run writes the steps after its checkpoint again, with equal values."""
        last, figures = self.last.get(kind, (-1, []))
        return step < last or (step == last and figure in figures)

    def note(self, kind: str, step: int, figure: str) -> None:
        last, figures = self.last.get(kind, (-1, []))
        self.last[kind] = (step, [*figures, figure] if step == last else [figure])


class Notes:
    """The notes of one tracker and one experiment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: dict[str, Sent] = {}
        if path.is_file():
            value = _runs._json(path)
            if not isinstance(value, dict) or value.get("version") != _VERSION:
                raise FormatError(f"{path}: not the notes of this version; remove the file to send everything again")
            for key, sent in value["runs"].items():
                last = {kind: (step, figures) for kind, (step, figures) in sent.pop("last").items()}
                self._runs[key] = Sent(**sent, last=last)

    def of(self, key: str) -> Sent | None:
        return self._runs.get(key)

    def put(self, key: str, sent: Sent | None) -> None:
        if sent is None:
            self._runs.pop(key, None)
        else:
            self._runs[key] = sent
        value = {"version": _VERSION, "runs": {name: vars(each) for name, each in self._runs.items()}}
        partial = self._path.with_name(self._path.name + ".partial")
        partial.write_text(json.dumps(value), encoding="utf-8")
        os.replace(partial, self._path)
