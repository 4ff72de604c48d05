"""What the relay asks of a tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class TrackerError(RuntimeError):
    """A tracker cannot be used as it is set up, or refused what it was sent."""


@dataclass(frozen=True)
class Point:
    """A value of a curve. ``step`` is the number of optimiser steps taken."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Described:
    """A run as a tracker knows it.

    ``key`` is the same whenever this run is sent, and another after the experiment was deleted and begun again.
    ``tags`` say what the run is: method, share, seed and so on. ``settings`` are empty while it is under way.
    """

    key: str
    experiment: str
    run: str
    tags: dict[str, Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.run}"


class Sink(Protocol):
    """One run in a tracker. What a method was given is stored when it returns."""

    #: With it, the tracker finds this run again.
    handle: str

    def send(self, points: list[Point]) -> None:
        """Adds points, in the order of the log."""

    def describe(self, settings: dict[str, Any]) -> None:
        """Sets the settings of the run. It is called once."""

    def answers(self, rows: list[dict[str, Any]]) -> None:
        """Adds prompts and answers. The user has asked for it."""

    def close(self, state: str) -> None:
        """The end for now; ``state`` is ``done``, ``trained``, ``failed`` or ``under way``."""


class Tracker(Protocol):
    """A place that runs are sent to."""

    name: str

    @property
    def destination(self) -> str:
        """Tells this place from others of its kind. Only its digest is stored."""

    def exists(self, run: Described, handle: str) -> bool:
        """Whether what was sent under this handle is still there."""

    def open(self, run: Described, handle: str | None) -> Sink:
        """The run in the tracker: the one with this handle, or a new one."""
