"""Reads a log while it grows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._runs import FormatError


class Tail:
    """The lines of a growing log that were not read yet."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._offset = 0

    def read(self, log: Path, whole: bool) -> tuple[list[dict[str, Any]], Callable[[], None]]:
        """New lines, and what to call when they are dealt with."""
        if not log.is_file():
            return [], lambda: None
        # When a run is trained, its log moves. A resumed one is cut at its checkpoint. Both are read from the
        # beginning; what was sent is known.
        start = self._offset if log == self._path and log.stat().st_size >= self._offset else 0
        with log.open("rb") as file:
            file.seek(start)
            data = file.read()
        end = len(data) if whole else data.rfind(b"\n") + 1
        lines = []
        for number, line in enumerate(data[:end].splitlines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                where = "" if start else f":{number}"
                raise FormatError(f"{log}{where}: not JSON: {error}") from error
            if not isinstance(value, dict) or "kind" not in value or "step" not in value:
                raise FormatError(f"{log}: not a log: a line has no `kind` or no `step`")
            lines.append(value)

        def dealt() -> None:
            self._path, self._offset = log, start + end

        return lines, dealt
