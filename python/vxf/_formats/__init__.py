"""Writes experiments in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

from .. import _runs

__all__ = ["NAMES", "export"]

#: The formats that can be named.
NAMES = ("inspect", "every-eval-ever", "csv", "parquet")


def export(
    path: _runs.Place, form: str, output: _runs.Place, with_samples: bool = False, organization: str = "anonymous"
) -> list[Path]:
    """Writes the measured runs at ``path`` into the directory ``output``; the files that it wrote.

    ``form`` is one of ``inspect``, ``every-eval-ever``, ``csv`` and ``parquet``. Prompts and answers are written only
    ``with_samples``. ``organization`` is who made the results, for Every Eval Ever.
    """
    place = Path(output)
    for root in {run.root for run in _runs._runs(Path(path))}:
        if root == place.resolve() or root in place.resolve().parents:
            raise ValueError(f"{output}: inside the experiment; choose another directory")
    if form == "inspect":
        from ._inspect import write_inspect

        return write_inspect(path, place, with_samples)
    if form == "every-eval-ever":
        from ._every_eval_ever import write_every_eval_ever

        return write_every_eval_ever(path, place, with_samples, organization)
    if form in ("csv", "parquet"):
        from ._tables import write_tables

        return write_tables(path, place, form, with_samples)
    raise ValueError(f"no format `{form}`; there are {', '.join(NAMES)}")
