"""Writes experiments in the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .. import _runs
from ._common import File, has_other, write

__all__ = ["NAMES", "export"]

#: The formats that can be named.
NAMES = ("inspect", "every-eval-ever", "csv", "parquet")


def export(
    path: _runs.Place,
    form: str,
    output: _runs.Place,
    with_samples: bool = False,
    organization: str = "anonymous",
    overwrite: bool = False,
) -> list[Path]:
    """Writes the measured runs at ``path`` into the directory ``output``; the files of the export.

    ``form`` is one of ``inspect``, ``every-eval-ever``, ``csv`` and ``parquet``. Prompts and answers are written only
    ``with_samples``. ``organization`` is who made the results, for Every Eval Ever. A file that is there with another
    content is an error, and then nothing is written; with ``overwrite`` it is replaced.
    """
    place = Path(output)
    for root in {run.root for run in _runs._runs(Path(path))}:
        if root == place.resolve() or root in place.resolve().parents:
            raise ValueError(f"{output}: inside the experiment; choose another directory")
    files = _files(path, form, with_samples, organization)
    if not overwrite:
        _refuse_others(place, files)
    written = []
    for name, content in files():
        write(place / name, content)
        written.append(place / name)
    return written


def _files(path: _runs.Place, form: str, with_samples: bool, organization: str) -> Callable[[], Iterator[File]]:
    """What gives the files of a format, one after the other; each time the same."""
    if form == "inspect":
        from ._inspect import inspect_files

        return lambda: inspect_files(path, with_samples)
    if form == "every-eval-ever":
        from ._every_eval_ever import every_eval_ever_files

        return lambda: every_eval_ever_files(path, with_samples, organization)
    if form in ("csv", "parquet"):
        from ._tables import table_files

        return lambda: table_files(path, form, with_samples)
    raise ValueError(f"no format `{form}`; there are {', '.join(NAMES)}")


def _refuse_others(place: Path, files: Callable[[], Iterator[File]]) -> None:
    """Raises an error if a file is there with another content. Only then are all contents made twice."""
    if not place.is_dir():
        return
    others = [place / name for name, content in files() if has_other(place / name, content)]
    if others:
        count = len(others) - 1
        more = "" if count == 0 else ", and so does 1 more file" if count == 1 else f", and so do {count} more files"
        raise FileExistsError(
            f"{others[0]}: exists with another content{more}; nothing was written. "
            "Choose another directory, or add `--overwrite` (in Python: overwrite=True)"
        )
