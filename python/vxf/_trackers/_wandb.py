"""Weights & Biases, through its own client.

``WANDB_API_KEY`` is the token. With ``WANDB_MODE=offline`` nothing is sent: the client writes a directory that
``wandb sync`` sends later.
"""

from __future__ import annotations

import os
from typing import Any

from .._needs import needed
from ._tracker import Described, Point, TrackerError


class Wandb:
    """A project of W&B."""

    name = "wandb"

    def __init__(self, project: str) -> None:
        self._project = project
        # Reports of the client's own errors go to its makers, with what was in memory.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._mode = os.environ.get("WANDB_MODE", "online")
        if self._mode not in ("offline", "dryrun", "disabled") and not os.environ.get("WANDB_API_KEY"):
            raise TrackerError("wandb: set WANDB_API_KEY, or WANDB_MODE=offline to write without sending")
        self._wandb = needed("wandb", "the tracker wandb needs", "wandb")

    @property
    def destination(self) -> str:
        place = [os.environ.get(name, "") for name in ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_DIR")]
        return " ".join([self._mode, *place, self._project])

    def exists(self, run: Described, handle: str) -> bool:
        return True

    def open(self, run: Described, handle: str | None) -> _Run:
        # Without these, the client records the working directory, the command line, the machine, installed packages
        # and whatever is printed. None of it describes the run.
        quiet = self._wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            silent=True,
            host="vxf",
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        try:
            made = self._wandb.init(
                project=self._project,
                id=run.key,
                name=run.name,
                group=run.experiment,
                config=dict(run.tags),
                resume="allow",
                reinit="create_new",
                settings=quiet,
            )
        except Exception as error:  # the client has many kinds
            raise TrackerError(f"wandb: {error}") from error
        # The client wants steps that never go back. Ours are a column, so that a resumed run can be completed.
        made.define_metric("step")
        made.define_metric("*", step_metric="step")
        return _Run(self._wandb, made, run.key)


class _Run:
    def __init__(self, wandb: Any, run: Any, handle: str) -> None:
        self._wandb, self._run = wandb, run
        self.handle = handle

    def send(self, points: list[Point]) -> None:
        for step, values in by_step(points):
            self._run.log({"step": step, **values})

    def describe(self, settings: dict[str, Any]) -> None:
        self._run.config.update(settings, allow_val_change=True)

    def answers(self, rows: list[dict[str, Any]]) -> None:
        columns = list(rows[0]) if rows else []
        # Texts and numbers stand in one column where an answer was not judged.
        data = [["" if row[name] is None else str(row[name]) for name in columns] for row in rows]
        self._run.log({"answers": self._wandb.Table(columns=columns, data=data)})

    def close(self, state: str) -> None:
        self._run.finish(exit_code=1 if state == "failed" else 0)


def by_step(points: list[Point]) -> list[tuple[int, dict[str, float]]]:
    """Neighbouring points of one step together; a value that comes twice begins anew."""
    groups: list[tuple[int, dict[str, float]]] = []
    for point in points:
        if not groups or groups[-1][0] != point.step or point.name in groups[-1][1]:
            groups.append((point.step, {}))
        groups[-1][1][point.name] = point.value
    return groups
