"""trackio, through its own client.

Without more, it writes a database on this machine (``TRACKIO_DIR``). ``TRACKIO_SPACE_ID`` with ``HF_TOKEN``, or
``TRACKIO_SERVER_URL`` with ``TRACKIO_WRITE_TOKEN``, make it send.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from .._needs import needed
from ._tracker import Described, Point, TrackerError
from ._wandb import by_step


class Trackio:
    """A project of trackio."""

    name = "trackio"

    def __init__(self, project: str) -> None:
        self._project = project
        space, server = os.environ.get("TRACKIO_SPACE_ID"), os.environ.get("TRACKIO_SERVER_URL")
        if space and not os.environ.get("HF_TOKEN"):
            raise TrackerError("trackio: TRACKIO_SPACE_ID needs HF_TOKEN in the environment")
        if not space:
            # The client asks the hub for the user's name, with the token that it finds in the user's files.
            os.environ["HF_HUB_OFFLINE"] = "1"
        self._trackio = needed("trackio", "the tracker trackio needs", "trackio")
        self._place = space or server or os.environ.get("TRACKIO_DIR", "")

    @property
    def destination(self) -> str:
        return f"{self._place.split('?')[0]} {self._project}"

    def exists(self, run: Described, handle: str) -> bool:
        return True

    def open(self, run: Described, handle: str | None) -> _Run:
        # The client finds a run by its name only, so the name has the key.
        return _Run(self._trackio, self._project, run, f"{run.name}@{run.key[:8]}")


class _Run:
    """The client has one open run at a time, so each batch opens it again."""

    def __init__(self, trackio: Any, project: str, run: Described, handle: str) -> None:
        self._trackio, self._project, self._described = trackio, project, run
        self._config = {_safe(name): value for name, value in [*run.tags.items(), *run.settings.items()]}
        self.handle = handle

    def send(self, points: list[Point]) -> None:
        self._log([(step, dict(values)) for step, values in by_step(points)])

    def describe(self, settings: dict[str, Any]) -> None:
        # The client stores settings with the next values.
        self._config.update({_safe(name): value for name, value in settings.items()})

    def answers(self, rows: list[dict[str, Any]]) -> None:
        columns = list(rows[0]) if rows else []
        data = [["" if row[name] is None else str(row[name]) for name in columns] for row in rows]
        self._log([(0, {"answers": self._trackio.Table(columns=columns, data=data)})])

    def close(self, state: str) -> None:
        pass

    def _log(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        # What it prints is for whoever trains in a notebook.
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                self._log_quietly(rows)
            except Exception as error:  # the client has many kinds
                raise TrackerError(f"trackio: {error}") from error

    def _log_quietly(self, rows: list[tuple[int, dict[str, Any]]]) -> None:
        run = self._trackio.init(
            project=self._project,
            name=self.handle,
            group=self._described.experiment,
            config=self._config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, values in rows:
            run.log(values, step=step)
        self._trackio.finish()


def _safe(name: str) -> str:
    """Names that begin with `_` are the client's own."""
    return name.lstrip("_") or "unnamed"
