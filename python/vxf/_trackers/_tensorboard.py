"""TensorBoard: event files on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from . import _events
from ._tracker import Described, Point


class TensorBoard:
    """A directory of event files, with one directory for each run."""

    name = "tensorboard"

    def __init__(self, logdir: Path) -> None:
        self._logdir = logdir

    @property
    def destination(self) -> str:
        return str(self._logdir.resolve())

    def exists(self, run: Described, handle: str) -> bool:
        return any(self._place(run).glob("events.out.tfevents.*"))

    def open(self, run: Described, handle: str | None) -> _Files:
        return _Files(self._place(run), run.key)

    def _place(self, run: Described) -> Path:
        return self._logdir / run.experiment / run.run


class _Files:
    def __init__(self, place: Path, handle: str) -> None:
        self.handle = handle
        place.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a directory by name, so a later one must be named later. Its own writers put
        # the machine's name here.
        now = time.time_ns()
        self._file = (place / f"events.out.tfevents.{now // 10**9}.vxf.{now % 10**9:09}").open("xb")
        _events.write(self._file, _events.version(time.time()))

    def send(self, points: list[Point]) -> None:
        now = time.time()
        for point in points:
            _events.write(self._file, _events.scalar(now, point.step, point.name, point.value))
        self._settle()

    def describe(self, settings: dict[str, Any]) -> None:
        rows = "".join(f"| `{name}` | {value} |\n" for name, value in settings.items())
        _events.write(self._file, _events.text(time.time(), 0, "settings", "| setting | value |\n|---|---|\n" + rows))
        self._settle()

    def answers(self, rows: list[dict[str, Any]]) -> None:
        now = time.time()
        for row in rows:
            # Indented, so that nothing in an answer is taken for Markdown.
            parts = [("prompt", row["prompt"]), ("expected", row["expected"]), ("answer", row["answer"])]
            shown = "\n\n".join(f"{name}\n\n{_indented(text)}" for name, text in parts if text is not None)
            _events.write(self._file, _events.text(now, row["index"], f"answers/{row['set']}", shown))
        self._settle()

    def close(self, state: str) -> None:
        self._file.close()

    def _settle(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines() or [""])
