"""Reads the results of vxf into pandas.

vxf is a program that writes one directory for each experiment. This package reads these directories; it neither
needs nor starts the program. pandas is imported when a function is called::

    import vxf

    runs = vxf.experiment("runs/vaccine-sst2-0123abcd")  # one row for each run
    figures = vxf.results("runs")                        # one row for each figure, of all experiments
    curves = vxf.curves("runs/vaccine-sst2-0123abcd")    # one row for each logged value
    answers = vxf.answers("runs/vaccine-sst2-0123abcd")  # one row for each stored answer

``python -m vxf`` sends runs to trackers, and writes them in other tools' formats.

``docs/guides/run-directory.md`` describes the files, ``docs/guides/trackers-and-formats.md`` trackers and formats.
"""

from ._formats import export
from ._lm_eval import lm_eval
from ._runs import (
    SCHEMA_VERSION,
    FormatError,
    answers,
    curves,
    experiment,
    results,
    runs,
)

__all__ = [
    "SCHEMA_VERSION",
    "FormatError",
    "answers",
    "curves",
    "experiment",
    "export",
    "lm_eval",
    "results",
    "runs",
]
