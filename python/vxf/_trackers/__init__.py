"""Trackers: TensorBoard, MLflow, W&B and trackio."""

from __future__ import annotations

from pathlib import Path

from ._tracker import Described, Point, Sink, Tracker, TrackerError

__all__ = ["NAMES", "Described", "Point", "Sink", "Tracker", "TrackerError", "tracker"]

#: The trackers that can be named.
NAMES = ("tensorboard", "mlflow", "wandb", "trackio")


def tracker(name: str, project: str, logdir: Path) -> Tracker:
    """The tracker of this name. Only its own module is imported.

    ``project`` is what MLflow calls an experiment. ``logdir`` is TensorBoard's directory.
    """
    if name == "tensorboard":
        from ._tensorboard import TensorBoard

        return TensorBoard(logdir)
    if name == "mlflow":
        from ._mlflow import MLflow

        return MLflow(project)
    if name == "wandb":
        from ._wandb import Wandb

        return Wandb(project)
    if name == "trackio":
        from ._trackio import Trackio

        return Trackio(project)
    raise TrackerError(f"no tracker `{name}`; there are {', '.join(NAMES)}")
