"""Tidy tables as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import _runs
from .._needs import needed
from .._text import cell, is_defined
from ._common import File


def table_files(path: _runs.Place, form: str, with_samples: bool) -> Iterator[File]:
    """The tables ``runs``, ``results``, ``curves`` and, if they are wanted, ``answers``; without those that are empty."""
    place = Path(path)
    tables = {
        "runs": _runs._run_table(_runs._runs(place)),
        "results": _runs._result_table(_runs._runs(place)),
        "curves": _runs._curve_table(_runs._runs(place, under_way=True)),
    }
    if with_samples:
        tables["answers"] = _runs._answer_table(_runs._runs(place))
    for name, table in tables.items():
        if table.rows:
            yield f"{name}.{form}", _csv(table) if form == "csv" else _parquet(table)


def _csv(table: _runs._Table) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    columns = table.columns
    rows.writerow([cell(name) for name in columns])
    for row in table.rows:
        rows.writerow([_value(row.get(name)) for name in columns])
    return text.getvalue()


def _value(value: Any) -> Any:
    """A cell: empty if there is no value; a float with all its digits."""
    if not is_defined(value):
        return ""
    return repr(value) if isinstance(value, float) else cell(value)


def _parquet(table: _runs._Table) -> bytes:
    arrow = needed("pyarrow", "Parquet files need", "pyarrow")
    parquet = needed("pyarrow.parquet", "Parquet files need", "pyarrow")
    columns = {}
    for name in table.columns:
        values = [row.get(name) for row in table.rows]
        values = [value if is_defined(value) else None for value in values]
        kinds = {type(value) for value in values if value is not None}
        # An axis may have numbers in some runs and words in others.
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [None if value is None else str(value) for value in values]
        elif kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        columns[name] = arrow.array(values)
    sink = io.BytesIO()
    parquet.write_table(arrow.table(columns), sink)
    return sink.getvalue()
