"""Finds the runs of experiments and turns their files into data frames."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike
    from typing import TypeAlias

    import pandas

    Place: TypeAlias = str | PathLike[str]

#: The layout of records and manifests that this package reads.
SCHEMA_VERSION = 2

_MANIFEST = "manifest.json"
_RECIPE = "config.resolved.toml"
_RESULT = "result.json"
_TRAINING = "training.json"
_LOG = "metrics.jsonl"
_ANSWERS = "generations.jsonl"
_CHECKPOINTS = "checkpoints"

#: How deep a run lies below its experiment: methods, share, seed, and further axes.
_DEEPEST = 12

#: The columns that identify a run.
_OF_RUN = ["experiment", "run", "stage", "method", "p", "seed"]

#: The figure that counts the answers to each set of prompts.
_COUNTED = {
    "harmful": "harmful_score",
    "benign": "helpfulness",
    "task": "accuracy",
    "borderline": "over_refusal",
}


class FormatError(ValueError):
    """A file is not what this version of the package reads."""


@dataclass(frozen=True)
class _Run:
    """A run: its experiment, its directory, and its record if it is trained."""

    root: Path
    place: Path
    record: dict[str, Any]
    state: str

    def identity(self) -> dict[str, Any]:
        """What tells it from all other runs, in the order of the columns."""
        record = self.record
        axes = record.get("axes", [])
        share = record.get("ratio")
        columns = {
            "experiment": self.root.name,
            "run": self.place.relative_to(self.root).as_posix(),
            "stage": record["stage"],
            "method": " ".join([record["label"], *(f"{name}={value}" for name, value in axes)]),
            "p": float("nan") if share is None else float(share),
            "seed": record["seed"],
        }
        for name, value in axes:
            # An axis must not hide a column of ours: the axis `stage` tells stages of one kind apart.
            columns[f"axis.{name}" if name in columns else name] = _plain(value)
        return columns


@dataclass(frozen=True)
class _Table:
    """Rows, the columns that come first in any case, and the columns of further axes."""

    rows: list[dict[str, Any]]
    first: list[str]
    axes: list[str]

    @property
    def columns(self) -> list[str]:
        """The columns ``first``, the axes after the seed, then others in the order in which they occur."""
        others: dict[str, None] = {}
        for row in self.rows:
            others.update(dict.fromkeys(row))
        at = self.first.index("seed") + 1
        known = [*self.first[:at], *self.axes, *self.first[at:]]
        return [*known, *(name for name in others if name not in known)]


class _Axes:
    """The columns of further axes, in the order in which they occur."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, run: _Run) -> dict[str, Any]:
        """The identity of a run, whose axes are noted."""
        identity = run.identity()
        self.names.extend(name for name in identity if name not in [*_OF_RUN, *self.names])
        return identity


def experiment(path: Place) -> pandas.DataFrame:
    """The runs of one experiment, one row each.

    ``path`` is the directory of an experiment, or of one of its runs. The columns are those of :func:`runs`. A directory
    of several experiments is an error: use :func:`runs` for it.
    """
    place = Path(path)
    found = _experiments(place)
    if found != [_root(place)]:
        raise ValueError(f"{place}: a directory of experiments, and no experiment; vxf.runs reads it")
    return runs(place)


def runs(path: Place) -> pandas.DataFrame:
    """The runs of one or of several experiments, one row each.

    ``path`` is an experiment, a run, or a directory of experiments such as ``runs``.

    Columns: ``experiment`` and ``run`` (names of directories), ``stage`` (``alignment``, ``fine_tuning`` or
    ``post_tuning``), ``method`` (the row of the table: methods and further axes), ``p`` (the harmful share, from 0 to 1; NaN
    before the user's stage), ``seed``, one column for each further axis, ``state`` (``done``, ``trained`` if it is not
    measured yet, or ``failed`` if some metric failed), ``steps`` (optimiser steps), ``samples`` (training samples),
    ``seconds`` (wall time of training and measuring), ``parent`` (the run that it starts from), ``digest``.

    Then four columns for each figure: ``harmful_score`` is its value, ``harmful_score.low`` and ``harmful_score.high`` the
    ends of its 95 % interval over the prompts of this run, ``harmful_score.n`` the number of prompts or samples. Rates are
    in percent; :func:`results` has all units. Figures without an interval have no such columns.
    """
    return _frame(_run_table(_runs(Path(path))))


def _run_table(found: Iterable[_Run]) -> _Table:
    rows, axes = [], _Axes()
    for run in found:
        record = run.record
        row = axes.of(run)
        row["state"] = run.state
        for key in ("steps", "samples", "seconds", "parent", "digest"):
            row[key] = record.get(key)
        for figure in record["measurements"]:
            name, interval = figure["name"], figure.get("interval")
            row[name] = _number(figure["value"])
            if interval is not None:
                row[f"{name}.low"], row[f"{name}.high"] = interval
            row[f"{name}.n"] = figure["n"]
        rows.append(row)
    first = [*_OF_RUN, "state", "steps", "samples", "seconds", "parent", "digest"]
    return _Table(rows, first, axes.names)


def results(path: Place) -> pandas.DataFrame:
    """The figures of all runs, one row each, as ``vxf report --format csv`` prints them.

    Columns: ``experiment``, ``run``, ``digest``, ``stage``, ``method``, ``p``, ``seed``, ``metric``, ``figure``, ``value``
    (NaN if it is undefined), ``unit`` (such as ``%`` or ``nats``), ``better`` (``higher`` or ``lower``), ``n`` (prompts or
    samples), ``low`` and ``high`` (the 95 % interval over prompts, in the same unit; NaN if there is none).
    """
    return _frame(_result_table(_runs(Path(path))))


def _result_table(found: Iterable[_Run]) -> _Table:
    rows = []
    columns = ["experiment", "run", "digest", "stage", "method", "p", "seed"]
    for run in found:
        identity = {**run.identity(), "digest": run.record.get("digest")}
        for figure in run.record["measurements"]:
            low, high = figure.get("interval") or (float("nan"), float("nan"))
            rows.append(
                {
                    **{name: identity[name] for name in columns},
                    "metric": figure["metric"],
                    "figure": figure["name"],
                    "value": _number(figure["value"]),
                    "unit": figure["unit"],
                    "better": figure["better"],
                    "n": figure["n"],
                    "low": low,
                    "high": high,
                }
            )
    return _Table(rows, [*columns, "metric", "figure", "value", "unit", "better", "n", "low", "high"], [])


def curves(path: Place) -> pandas.DataFrame:
    """What was logged during training, one row for each value.

    Runs under way are included, as far as they have come. Columns: those that identify the run, ``kind`` (``step``,
    ``measurement`` for figures of ``--eval-every``, or ``finish``), ``step`` (optimiser steps taken; the values of kind
    ``step`` are those of this step), ``samples`` (samples trained on; only for measurements), ``figure`` and ``value``.

    Values of kind ``step`` are ``loss`` (nats per token, of the method's own objective), ``learning_rate``,
    ``gradient_norm`` (L2, before clipping) and whatever the method records. Measurements have the units of
    :func:`results`.
    """
    return _frame(_curve_table(_runs(Path(path), under_way=True)))


def _curve_table(found: Iterable[_Run]) -> _Table:
    rows: list[dict[str, Any]] = []
    axes = _Axes()
    for run in found:
        log, done = _log_of(run)
        if not log.is_file():
            continue
        identity = axes.of(run)
        for line in _lines(log, whole=done):
            shared = {**identity, "kind": line["kind"], "step": line["step"], "samples": line.get("samples")}
            for figure, value in _logged(line):
                rows.append({**shared, "figure": figure, "value": _number(value)})
    return _Table(rows, [*_OF_RUN, "kind", "step", "samples", "figure", "value"], axes.names)


def answers(path: Place) -> pandas.DataFrame:
    """The stored answers, one row each.

    Columns: those that identify the run, ``set`` (the prompts: ``harmful``, ``benign``, ``task``, ``borderline`` or others),
    ``index`` (the answer's place within its set, from 0), ``prompt``, ``expected`` (the correct answer, if there is one),
    ``answer``, and ``counts``: True if the answer counts for the figure of its set by the first judge, False if it does
    not, None if that is unknown. These figures are ``harmful_score`` (the model complied), ``helpfulness`` (it helped),
    ``accuracy`` (it is correct) and ``over_refusal`` (it refused).

    After an attack on real data, answers can be harmful. Handle them accordingly.
    """
    frame = _frame(_answer_table(_runs(Path(path))))
    # Without this, a column of nothing but None becomes one of numbers.
    return frame.astype({"counts": object})


def _answer_table(found: Iterable[_Run]) -> _Table:
    rows: list[dict[str, Any]] = []
    axes = _Axes()
    for run in found:
        stored = run.place / _ANSWERS
        if not stored.is_file():
            continue
        identity = axes.of(run)
        by_set: dict[str, list[dict[str, Any]]] = {}
        for line in _lines(stored, whole=True):
            by_set.setdefault(line["probe"], []).append(line)
        for name, lines in by_set.items():
            outcomes = _outcomes(run.record, name, len(lines))
            for index, line in enumerate(lines):
                rows.append(
                    {
                        **identity,
                        "set": name,
                        "index": index,
                        "prompt": line["prompt"],
                        "expected": line.get("expected"),
                        "answer": line["answer"],
                        "counts": outcomes[index],
                    }
                )
    first = [*_OF_RUN, "set", "index", "prompt", "expected", "answer", "counts"]
    return _Table(rows, first, axes.names)


def _runs(path: Path, under_way: bool = False) -> Iterator[_Run]:
    """The runs at ``path``, experiments by name, the aligned model before what starts from it."""
    for root in _experiments(path):
        below = path.resolve()
        inside = below == root or root in below.parents
        yield from _of_experiment(root, below if inside else root, under_way)


def _experiments(path: Path) -> list[Path]:
    """The experiments at ``path``: itself, those in it, or the one that it belongs to."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such directory")
    if not _is_experiment(path):
        found = sorted(place.resolve() for place in path.iterdir() if _is_experiment(place))
        if found:
            return found
    root = _root(path)
    if root is None:
        raise FileNotFoundError(
            f"{path}: no experiment: neither it nor a directory in it has a {_MANIFEST}; `vxf run` makes one"
        )
    return [root]


def _root(path: Path) -> Path | None:
    """The directory of the experiment that ``path`` is or belongs to."""
    absolute = path.resolve()
    above = [absolute, *absolute.parents][:_DEEPEST]
    return next((place for place in above if _is_experiment(place)), None)


def _is_experiment(place: Path) -> bool:
    """Whether a directory is an experiment. A checkpoint has a manifest too, but another recipe."""
    return (place / _MANIFEST).is_file() and (place / _RECIPE).is_file()


def _of_experiment(root: Path, below: Path, under_way: bool) -> Iterator[_Run]:
    manifest = root / _MANIFEST
    _checked(_json(manifest), manifest)
    found = []
    for place in _places(root, 0):
        if place == below or below in place.parents:
            found.append(_of_place(root, place))
    if under_way:
        found.extend(_unfinished(root, below))
    # By seed within a method and a share; the share of an aligned model is NaN, which has no order.
    order = {"alignment": 0, "fine_tuning": 1, "post_tuning": 2}

    def key(run: _Run) -> tuple[Any, ...]:
        share = run.record.get("ratio")
        stage = order.get(run.record["stage"], len(order))
        seed = run.record["seed"]
        return (share is not None, share or 0.0, stage, run.record["label"], seed, run.place.as_posix())

    yield from sorted(found, key=key)


def _places(directory: Path, depth: int) -> Iterator[Path]:
    """The directories of all runs below ``directory``. Symbolic links are not followed: an experiment has none."""
    for place in sorted(directory.iterdir()):
        hidden = place.name.startswith(".") or place.name == _CHECKPOINTS
        if hidden or place.is_symlink() or not place.is_dir():
            continue
        if (place / _RESULT).is_file() or (place / _TRAINING).is_file():
            yield place
        if depth + 1 < _DEEPEST:
            yield from _places(place, depth + 1)


def _of_place(root: Path, place: Path) -> _Run:
    measured = place / _RESULT
    path = measured if measured.is_file() else place / _TRAINING
    record = _json(path)
    _checked(record, path)
    for key in ("label", "seed", "stage", "measurements"):
        if key not in record:
            raise FormatError(f"{path}: not the record of a run: it has no `{key}`")
    if path.name == _TRAINING:
        state = "trained"
    else:
        state = "failed" if record.get("failed") else "done"
    return _Run(root, place, record, state)


def _unfinished(root: Path, below: Path) -> Iterator[_Run]:
    """Runs that have a log and no record yet; their directory is their name."""
    checkpoints = root / _CHECKPOINTS
    if not checkpoints.is_dir():
        return
    for log in sorted(checkpoints.rglob(_LOG)):
        name = log.parent.relative_to(checkpoints)
        place = root / name
        trained = (place / _TRAINING).is_file() or (place / _RESULT).is_file()
        if trained or not (place == below or below in place.parents or below == log.parent):
            continue
        if len(name.parts) < 3:
            continue
        label, share, seed, *axes = name.parts
        record = {
            "label": label,
            "ratio": None if share == "aligned" else float(share),
            "seed": int(seed),
            "axes": [axis.partition("=")[::2] for axis in axes],
            # The log does not say which of its methods is training.
            "stage": "alignment" if share == "aligned" else "fine_tuning",
            "measurements": [],
        }
        yield _Run(root, place, record, "under way")


def _log_of(run: _Run) -> tuple[Path, bool]:
    """The log of a run, and whether it is whole: that of a run under way is in its checkpoints."""
    log = run.place / _LOG
    if log.is_file():
        return log, True
    return run.root / _CHECKPOINTS / run.place.relative_to(run.root) / _LOG, False


def _logged(line: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and value of everything in a line of a log."""
    if line["kind"] == "step":
        yield "learning_rate", line.get("learning_rate")
        yield "gradient_norm", line.get("gradient_norm")
    for name, value in (line.get("figures") or {}).items():
        # A method may record a text or a list, which has no place in a curve.
        if value is None or isinstance(value, (int, float)):
            yield name, value
    row = line.get("row")
    if row is not None:
        yield row["name"], row["value"]


def _outcomes(record: dict[str, Any], name: str, count: int) -> list[bool | None]:
    """Whether each of ``count`` answers of a set counts, if the record says so."""
    unknown: list[bool | None] = [None] * count
    figure = _COUNTED.get(name)
    for row in record["measurements"]:
        if row["name"] == figure and row.get("outcomes"):
            letters = row["outcomes"]["letters"]
            # After a measurement that was cut off, answers and outcomes may not belong together.
            if len(letters) == count:
                return [{"1": True, "0": False}.get(letter) for letter in letters]
    return unknown


def _number(value: Any) -> float:
    """A figure as a number; what JSON cannot say is ``null``."""
    return float("nan") if value is None else float(value)


def _checked(value: Any, path: Path) -> None:
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        found = "no schema_version" if version is None else f"schema_version {version}"
        raise FormatError(
            f"{path}: {found}, and this package reads {SCHEMA_VERSION}; use the package that came with the program "
            "that wrote it"
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from error


def _lines(path: Path, whole: bool) -> Iterator[dict[str, Any]]:
    """The objects in a file of JSON lines. The last line of a file that is not ``whole`` may be half written."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                if not whole and not line.endswith("\n"):
                    return
                raise FormatError(f"{path}:{number}: not JSON: {error}") from error


def _plain(text: str) -> Any:
    """The value of an axis: a number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def _frame(table: _Table) -> pandas.DataFrame:
    """The table as a data frame."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("vxf makes data frames with pandas: pip install pandas", name=error.name) from error

    return pandas.DataFrame(table.rows, columns=table.columns)
