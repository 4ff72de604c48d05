"""Relays what runs have logged to trackers, each value once.

What was sent is noted in ``.track`` in the experiment, or in another directory. The program skips names that begin with a
point.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import _runs
from ._notes import Notes, Sent
from ._tail import Tail
from ._target import Target
from ._text import is_defined, settings
from ._trackers import Described, Point, Sink, Tracker, TrackerError

#: The directory of notes in an experiment.
_NOTES = ".track"
#: The beginning of each name, by the kind of a log's line.
_PREFIX = {"step": "train", "measurement": "eval", "finish": "finish"}
#: Times in a row that reading or sending may fail while a run is followed.
_TRIES = 5


class Relay:
    """Sends the runs of one experiment to one tracker."""

    def __init__(self, target: Target, tracker: Tracker, notes: Path | None, with_samples: bool) -> None:
        self.target, self.tracker, self._with_samples = target, tracker, with_samples
        place = target.root / _NOTES if notes is None else notes
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackerError(f"{error}; --notes DIR keeps the notes elsewhere") from error
        of = hashlib.sha256(f"{tracker.name} {tracker.destination}".encode()).hexdigest()[:12]
        if notes is not None:
            of += "-" + _key(target.root, "")[:12]
        self._path = place / f"{tracker.name}-{of}.json"
        self._notes = Notes(self._path)
        self._tails: dict[str, Tail] = {}
        self._sinks: dict[str, Sink] = {}
        self._seen: set[str] = set()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes from sending the same to the same place."""
        try:
            import fcntl
        except ModuleNotFoundError:
            yield
            return
        with self._path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrackerError(f"{self.tracker.name}: another process is sending this experiment there") from None
            # The other one may have sent something in the meantime.
            self._notes = Notes(self._path)
            yield

    def forward(self) -> dict[str, int]:
        """Sends what is new. How many values were sent, for each run that had any."""
        counts = {}
        for run in self.target.runs():
            count = self._forward_run(run)
            if count:
                counts[_name(run)] = count
        return counts

    def close(self) -> None:
        """Ends what is open; a run under way stays so in the tracker."""
        for name in list(self._sinks):
            self._sinks.pop(name).close("under way")

    def _forward_run(self, run: _runs._Run) -> int:
        name = _name(run)
        identity = run.identity()
        tags = {key: value for key, value in identity.items() if is_defined(value)}
        of_run = {} if run.state == "under way" else settings(run.record)
        described = Described(_key(run.root, name), run.root.name, name, tags, of_run)
        sent = self._notes.of(described.key)
        if sent is not None and name not in self._seen and not self.tracker.exists(described, sent.handle):
            sent = None
            self._notes.put(described.key, None)
        self._seen.add(name)

        log, whole = _runs._log_of(run)
        lines, dealt = self._tails.setdefault(name, Tail()).read(log, whole)
        new = Sent("") if sent is None else replace(sent, last=dict(sent.last))
        points = []
        for line in lines:
            kind, step = line["kind"], line["step"]
            for figure, value in _runs._logged(line):
                # A value that JSON cannot say has no place in a chart.
                if value is None or new.has(kind, step, figure):
                    continue
                points.append(Point(f"{_PREFIX.get(kind, kind)}/{figure}", step, float(value)))
                new.note(kind, step, figure)
        figures = list(_figures(run.record))
        digest = _digest([[point.name, point.value] for point in figures]) if figures else new.figures
        if digest != new.figures:
            points.extend(figures)
            new.figures = digest
        chosen = {} if new.settings else of_run
        answers = self._answers(run, new)
        if points or chosen or answers:
            sink = self._sinks.get(name)
            if sink is None:
                sink = self.tracker.open(described, None if sent is None else sent.handle)
                self._sinks[name] = sink
            new.handle = sink.handle
            if chosen:
                sink.describe(chosen)
                new.settings = True
            if points:
                sink.send(points)
            if answers:
                sink.answers(answers)
            self._notes.put(described.key, new)
        dealt()
        if run.state in ("done", "failed") and name in self._sinks:
            self._sinks.pop(name).close(run.state)
        return len(points) + len(answers)

    def _answers(self, run: _runs._Run, new: Sent) -> list[dict[str, Any]]:
        """Stored answers that were not sent yet, if the user wants them sent."""
        stored = run.place / _runs._ANSWERS
        if not self._with_samples or not stored.is_file():
            return []
        digest = hashlib.sha256(stored.read_bytes()).hexdigest()
        if digest == new.answers:
            return []
        new.answers = digest
        columns = ["set", "index", "prompt", "expected", "answer", "counts"]
        return [{name: row[name] for name in columns} for row in _runs._answer_table([run]).rows]


def follow(
    relays: list[Relay], interval: float, patience: float, say: Callable[[str, dict[str, int]], None]
) -> list[str]:
    """Forwards until everything that is meant is measured. What went wrong; nothing if all is well.

    ``interval`` is the time between two looks, in seconds. ``patience`` is how long to wait, in seconds, when nothing is
    new and no process holds an experiment: it may wait for a place on a cluster, or was stopped.
    """
    problems: list[str] = []
    active = dict.fromkeys(relays, 0)
    news = time.monotonic()
    while active:
        targets = {relay.target for relay in active}
        # Asked first, so that what comes between this and the reading is read.
        ended = all(target.has_ended() for target in targets)
        for relay, failed in list(active.items()):
            try:
                counts = relay.forward()
                active[relay] = 0
            except (TrackerError, OSError) as error:
                # A directory may move between two looks, and a server may be away for a moment.
                active[relay] = failed + 1
                if failed + 1 < _TRIES:
                    say(f"{error}; trying again", {})
                else:
                    # The others go on.
                    problems.append(str(error))
                    del active[relay]
                continue
            if counts:
                news = time.monotonic()
                say(relay.tracker.name, counts)
        if ended and not any(active.values()):
            break
        if any(target.is_held() for target in targets):
            news = time.monotonic()
        if time.monotonic() - news > patience:
            names = ", ".join(sorted({target.below.name for target in targets if not target.has_ended()}))
            problems.append(f"{names}: not finished, and no process has worked on it for {patience:g} s")
            break
        time.sleep(interval)
    return problems


def _name(run: _runs._Run) -> str:
    return run.place.relative_to(run.root).as_posix()


def _key(root: Path, name: str) -> str:
    """Tells a run from all others: its experiment's recipe and beginning, and its name. Moving it changes nothing."""
    manifest = _runs._json(root / _runs._MANIFEST)
    return _digest([manifest.get("recipe"), manifest.get("started"), name])[:32]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _figures(record: dict[str, Any]) -> Iterator[Point]:
    """The final figures, with the ends of their 95 % intervals over prompts, at the last step."""
    step = int(record.get("steps") or 0)
    for row in record["measurements"]:
        if row["value"] is None:
            continue
        yield Point(f"final/{row['name']}", step, float(row["value"]))
        for end, value in zip(("low", "high"), row.get("interval") or ()):
            yield Point(f"final/{row['name']}.{end}", step, float(value))
