"""Results of lm-evaluation-harness beside those of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _runs
from ._runs import FormatError, _Table
from ._text import is_defined, printable

if TYPE_CHECKING:
    import pandas

    from ._runs import Place

_FIRST = ["source", "metric", "figure", "value", "unit", "better", "n", "low", "high", "stderr", "seed"]


def lm_eval(results: Place, run: Place) -> pandas.DataFrame:
    """The figures of a run and those of a ``results_*.json`` of lm-evaluation-harness, one row each.

    Columns: ``source`` (``vxf`` or ``lm-eval``), ``metric`` (for lm-eval the task), ``figure`` (for lm-eval the metric, with
    its filter after a comma if it is not ``none``), ``value``, ``unit`` (empty for lm-eval: its files have none; most of
    its rates are from 0 to 1, ours are in percent), ``better``, ``n``, ``low`` and ``high`` (our 95 % interval over prompts),
    ``stderr`` (lm-eval's standard error), ``seed``. The records of the run do not change.
    """
    return _runs._frame(table(results, run))


def table(results: Place, run: Place) -> _Table:
    """The same without pandas."""
    found = list(_runs._runs(Path(run)))
    if len(found) != 1:
        raise ValueError(f"{run}: {len(found)} runs; name one, such as EXPERIMENT/vaccine/0.2/1")
    rows = []
    for row in _runs._result_table(found).rows:
        kept = {name: row.get(name) for name in _FIRST}
        rows.append({**kept, "source": "vxf", "stderr": math.nan})
    return _Table([*rows, *_theirs(Path(results))], _FIRST, [])


def _theirs(path: Path) -> list[dict[str, Any]]:
    value = _runs._json(path)
    tasks = value.get("results") if isinstance(value, dict) else None
    if not isinstance(tasks, dict) or not all(isinstance(task, dict) for task in tasks.values()):
        raise FormatError(f"{path}: not a results_*.json of lm-eval: it has no `results` by task")
    better, counts = _dict(value, "higher_is_better"), _dict(value, "n-samples")
    rows = []
    for task, figures in tasks.items():
        for key, figure in figures.items():
            metric, _, kind = key.partition(",")
            if metric.endswith("_stderr") or isinstance(figure, bool) or not isinstance(figure, (int, float)):
                continue
            # The number of samples stands among the figures.
            if key in ("samples", "sample_len"):
                continue
            error = figures.get(f"{metric}_stderr,{kind}" if kind else f"{metric}_stderr")
            higher = _dict(better, task).get(metric)
            count = _dict(counts, task).get("effective", figures.get("sample_len"))
            rows.append(
                {
                    "source": "lm-eval",
                    "metric": printable(task),
                    "figure": printable(metric if kind in ("", "none") else key),
                    "value": float(figure),
                    "unit": "",
                    "better": "" if not isinstance(higher, bool) else "higher" if higher else "lower",
                    "n": count,
                    "low": math.nan,
                    "high": math.nan,
                    # "N/A" where there is none.
                    "stderr": float(error) if isinstance(error, (int, float)) else math.nan,
                    "seed": None,
                }
            )
    return rows


def _dict(value: dict[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def as_json(found: _Table) -> str:
    """The rows as JSON; what is undefined is null."""
    rows = [{name: row[name] if is_defined(row[name]) else None for name in found.columns} for row in found.rows]
    return json.dumps(rows, indent=2) + "\n"
