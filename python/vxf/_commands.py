"""The commands of ``python -m vxf``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _formats, _lm_eval, _track, _trackers
from ._formats._tables import _csv
from ._runs import FormatError, _Table
from ._target import targets
from ._text import is_defined, printable, without_secrets
from ._trackers import TrackerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. 0: done; 1: it failed, and the reason is on stderr; 2: unknown arguments."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (FormatError, TrackerError, OSError, ValueError, ModuleNotFoundError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; what was sent is noted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vxf", description="Passes the results of vxf on to other tools.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    track = commands.add_parser("track", help="send metrics to trackers", description=_track_runs.__doc__)
    track.set_defaults(run=_track_runs)
    track.add_argument("path", metavar="RUN_OR_EXPERIMENT", help="a run, an experiment, or a directory of experiments")
    track.add_argument(
        "--to",
        required=True,
        type=_trackers_named,
        metavar="TRACKER[,TRACKER]",
        help=f"where to: {', '.join(_trackers.NAMES)}",
    )
    track.add_argument("--quiet", action="store_true", help="tell only what failed")
    track.add_argument("--follow", action="store_true", help="go on until everything is measured")
    track.add_argument("--project", default="vxf", metavar="NAME", help="project of the tracker (default: vxf)")
    track.add_argument("--with-samples", action="store_true", help="send prompts and answers too; they can be harmful")
    track.add_argument(
        "--logdir", default="tensorboard", metavar="DIR", help="directory of TensorBoard (default: tensorboard)"
    )
    track.add_argument(
        "--notes", metavar="DIR", help="directory for notes of what was sent (default: .track in the experiment)"
    )
    track.add_argument(
        "--interval", default=2.0, type=_seconds, metavar="SECONDS", help="with --follow: time between two looks"
    )
    track.add_argument(
        "--patience",
        default=600.0,
        type=_seconds,
        metavar="SECONDS",
        help="with --follow: give up after this time in which no process has worked on the experiment (default: 600)",
    )

    check = commands.add_parser("trackers", help="check that trackers can be used", description=_check.__doc__)
    check.set_defaults(run=_check)
    check.add_argument("--to", required=True, type=_trackers_named, metavar="TRACKER[,TRACKER]", help="which ones")

    export = commands.add_parser("export", help="write other formats", description=_export.__doc__)
    export.set_defaults(run=_export)
    export.add_argument("path", metavar="EXPERIMENT", help="an experiment, a run, or a directory of experiments")
    export.add_argument("--format", required=True, choices=_formats.NAMES, help="the format")
    export.add_argument("--output", required=True, metavar="DIR", help="the directory to write to")
    export.add_argument(
        "--with-samples", action="store_true", help="write prompts and answers too; they can be harmful"
    )
    export.add_argument(
        "--organization", default="anonymous", metavar="NAME", help="for every-eval-ever: who made the results"
    )
    export.add_argument("--overwrite", action="store_true", help="replace files of an earlier export")

    beside = commands.add_parser(
        "import-lm-eval", help="show results of lm-eval beside ours", description=_import_lm_eval.__doc__
    )
    beside.set_defaults(run=_import_lm_eval)
    beside.add_argument("results", metavar="RESULTS.json", help="a results_*.json of lm-evaluation-harness")
    beside.add_argument("path", metavar="EXPERIMENT/RUN", help="one run")
    beside.add_argument("--format", default="text", choices=("text", "csv", "json"), help="default: text")
    return parser


def _track_runs(chosen: argparse.Namespace) -> int:
    """Sends what runs have logged, and their figures, to the named trackers; each value once."""
    found = targets(chosen.path)
    notes = None if chosen.notes is None else Path(chosen.notes)
    trackers = [_trackers.tracker(name, chosen.project, Path(chosen.logdir)) for name in chosen.to]
    problems = []
    relays = [_track.Relay(target, tracker, notes, chosen.with_samples) for target in found for tracker in trackers]
    with contextlib.ExitStack() as stack:
        for relay in relays:
            stack.enter_context(relay.alone())
            stack.callback(relay.close)
        if chosen.follow:
            say = _report_tries if chosen.quiet else _report
            problems = _track.follow(relays, chosen.interval, chosen.patience, say)
        else:
            for relay in relays:
                try:
                    counts = relay.forward()
                    if not chosen.quiet:
                        _report(relay.tracker.name, counts)
                except TrackerError as error:
                    # One tracker that is away does not keep the others from their values.
                    problems.append(str(error))
    for problem in problems:
        _say(f"error: {problem}")
    return 1 if problems else 0


def _check(chosen: argparse.Namespace) -> int:
    """Checks the clients of the named trackers, and their settings in the environment. Sends nothing."""
    for name in chosen.to:
        _trackers.tracker(name, "vxf", Path("tensorboard"))
    return 0


def _report_tries(text: str, counts: dict[str, int]) -> None:
    # Without counts it is a tracker that does not answer, and is tried again.
    if not counts:
        _say(text)


def _report(tracker: str, counts: dict[str, int]) -> None:
    for run, count in counts.items():
        _say(f"{tracker}: {run}: {count} values")
    if not counts:
        _say(f"{tracker}: nothing new" if tracker in _trackers.NAMES else tracker)


def _export(chosen: argparse.Namespace) -> int:
    """Writes measured runs in the format of another tool. Prompts and answers are left out unless they are asked for."""
    written = _formats.export(
        chosen.path, chosen.format, chosen.output, chosen.with_samples, chosen.organization, chosen.overwrite
    )
    _say(f"{len(written)} files in {chosen.output}")
    return 0 if written else 1


def _import_lm_eval(chosen: argparse.Namespace) -> int:
    """Prints results of lm-evaluation-harness beside the figures of a run. Changes nothing."""
    table = _lm_eval.table(chosen.results, chosen.path)
    if chosen.format == "csv":
        sys.stdout.write(_csv(table))
    elif chosen.format == "json":
        sys.stdout.write(_lm_eval.as_json(table))
    else:
        sys.stdout.write(_text_table(table, ["source", "metric", "figure", "value", "unit", "better", "n", "stderr"]))
    return 0


def _text_table(table: _Table, columns: list[str]) -> str:
    rows = [columns, *([_shown(row[name]) for name in columns] for row in table.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    return "".join("  ".join(each.ljust(width) for each, width in zip(row, widths)).rstrip() + "\n" for row in rows)


def _shown(value: Any) -> str:
    if not is_defined(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else printable(value)


def _trackers_named(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in _trackers.NAMES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"`{text}`: there are {', '.join(_trackers.NAMES)}")
    return names


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"`{text}`: more than 0 seconds")
    return value


def _say(text: str) -> None:
    print(printable(without_secrets(text)), file=sys.stderr)
