"""Tests of the relay to trackers.

PYTHONPATH=python python3 -m unittest discover -s python/tests

The trackers' own libraries read what was sent in `with_real_libraries.sh`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_runs import Place, example, figure, lines, record, step
from vxf import FormatError, _commands, _target, _text, _track
from vxf._trackers import Described, Point, TrackerError


class Fake:
    """A tracker that keeps what it is sent."""

    name = "fake"
    destination = "here"

    def __init__(self) -> None:
        self.there = True
        self.away = False
        self.points: dict[str, list[Point]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.states: dict[str, list[str]] = {}
        self.opened: list[tuple[str, str | None]] = []

    def exists(self, run: Described, handle: str) -> bool:
        return self.there

    def open(self, run: Described, handle: str | None) -> Any:
        self.opened.append((run.run, handle))
        tracker = self

        class Sink:
            def __init__(self) -> None:
                self.handle = f"handle of {run.run}"

            def send(self, points: list[Point]) -> None:
                if tracker.away:
                    raise TrackerError("fake: away")
                tracker.points.setdefault(run.run, []).extend(points)

            def describe(self, settings: dict[str, Any]) -> None:
                tracker.settings[run.run] = settings

            def answers(self, rows: list[dict[str, Any]]) -> None:
                tracker.rows[run.run] = rows

            def close(self, state: str) -> None:
                tracker.states.setdefault(run.run, []).append(state)

        return Sink()


class InPlace(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.work = Path(temporary.name)
        self.place = Place(self.work / "runs")
        example(self.place)
        self.one = self.place.root / "one"

    def relay(self, tracker: Any, path: Path | None = None, with_samples: bool = False) -> _track.Relay:
        (target,) = _target.targets(path or self.one)
        return _track.Relay(target, tracker, None, with_samples)

    def command(self, *arguments: str) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = _commands.main(arguments)
        return code, said.getvalue()


class Relaying(InPlace):
    def test_every_value_is_sent_once(self) -> None:
        fake = Fake()
        counts = self.relay(fake).forward()
        self.assertEqual(
            fake.points["sft/0.2/1"],
            [
                Point("train/learning_rate", 1, 1e-3),
                Point("train/gradient_norm", 1, 2.0),
                Point("train/loss", 1, 4.0),
                Point("train/penalty", 1, 0.5),
                # The loss of step 2 is undefined.
                Point("train/learning_rate", 2, 1e-3),
                Point("train/gradient_norm", 2, 2.0),
                Point("train/penalty", 2, 0.5),
                Point("eval/drift", 2, 3.5),
                Point("finish/pulled_back", 2, 0.25),
                Point("final/harmful_score", 2, 200 / 3),
                Point("final/harmful_score.low", 2, 20.8),
                Point("final/harmful_score.high", 2, 93.9),
            ],
        )
        self.assertEqual(counts["sft/0.2/1"], 12)
        self.assertEqual(fake.settings["sft/0.2/1"]["defense.name"], "sft")
        self.assertEqual((fake.rows, fake.states["sft/0.2/1"]), ({}, ["done"]))
        # Of a run under way, the half line waits.
        self.assertEqual([point.step for point in fake.points["vaccine/0.1/1"]], [1] * 4)
        self.assertNotIn("vaccine/0.1/1", fake.settings)
        # In another process.
        again = Fake()
        self.assertEqual((self.relay(again).forward(), again.opened), ({}, []))

    def test_a_run_that_goes_on_is_completed(self) -> None:
        fake = Fake()
        relay = self.relay(fake)
        relay.forward()
        log = "one/checkpoints/vaccine/0.1/1/metrics.jsonl"
        self.place.write(log, lines([step(1, 3.0), step(2, 1.0), step(3, 0.5)]))
        self.assertEqual(relay.forward(), {"vaccine/0.1/1": 8})
        # It was stopped, and resumed at a checkpoint after step 1.
        self.place.write(log, lines([step(1, 3.0)]))
        self.assertEqual(relay.forward(), {})
        self.place.write(log, lines([step(1, 3.0), step(2, 1.0), step(3, 0.5), step(4, 0.25)]))
        self.assertEqual(relay.forward(), {"vaccine/0.1/1": 4})
        # It is done: the log has moved, and there are figures.
        done = record("vaccine", 0.1, 1, measurements=[figure("drift", "drift", 7.0, "L2", "lower", 4)])
        self.place.run("one/vaccine/0.1/1", done)
        self.place.write("one/vaccine/0.1/1/metrics.jsonl", (self.place.root / log).read_text(encoding="utf-8"))
        self.assertEqual(relay.forward(), {"vaccine/0.1/1": 1})
        self.assertEqual(fake.points["vaccine/0.1/1"][-1], Point("final/drift", 2, 7.0))
        self.assertEqual(
            [point.value for point in fake.points["vaccine/0.1/1"] if point.name == "train/loss"], [3.0, 1.0, 0.5, 0.25]
        )
        self.assertEqual(fake.states["vaccine/0.1/1"], ["done"])
        self.assertEqual([run for run, _ in fake.opened].count("vaccine/0.1/1"), 1)

    def test_rows_of_one_step_can_come_in_two_parts(self) -> None:
        fake = Fake()
        relay = self.relay(fake)
        relay.forward()
        log = "one/checkpoints/vaccine/0.1/1/metrics.jsonl"
        rows = [
            {"kind": "measurement", "step": 1, "samples": 8, "row": figure("drift", name, 1.0, "L2", "lower", 4)}
            for name in ("drift", "relative_drift")
        ]
        for count in (1, 2):
            self.place.write(log, lines([step(1, 3.0), *rows[:count]]))
            self.assertEqual(relay.forward(), {"vaccine/0.1/1": 1})

    def test_answers_go_only_if_they_are_asked_for(self) -> None:
        fake = Fake()
        self.relay(fake).forward()
        self.assertEqual(fake.rows, {})
        relay = self.relay(fake, with_samples=True)
        self.assertEqual(relay.forward(), {"sft/0.2/1": 6})
        self.assertEqual(
            fake.rows["sft/0.2/1"][0],
            {
                "set": "harmful",
                "index": 0,
                "prompt": "how do i forge 0 ?",
                "expected": None,
                "answer": "first",
                "counts": True,
            },
        )
        self.assertEqual(self.relay(fake, with_samples=True).forward(), {})

    def test_new_figures_are_sent_again(self) -> None:
        self.relay(Fake()).forward()
        changed = record("sft", 0.2, 1, measurements=[figure("drift", "drift", 1.5, "L2", "lower", 4)])
        self.place.run("one/sft/0.2/1", changed)
        fake = Fake()
        self.assertEqual(self.relay(fake).forward(), {"sft/0.2/1": 1})
        self.assertEqual(fake.opened, [("sft/0.2/1", "handle of sft/0.2/1")])

    def test_what_was_not_taken_is_sent_later(self) -> None:
        fake = Fake()
        fake.away = True
        relay = self.relay(fake)
        with self.assertRaises(TrackerError):
            relay.forward()
        fake.away = False
        self.assertIn("sft/0.2/1", relay.forward())
        self.assertEqual(len(fake.points["sft/0.2/1"]), 12)

    def test_a_run_that_is_gone_there_is_sent_anew(self) -> None:
        fake = Fake()
        first = self.relay(fake).forward()
        fake.there = False
        self.assertEqual(self.relay(fake).forward(), first)

    def test_an_experiment_begun_again_is_another_one(self) -> None:
        first = self.relay(Fake()).forward()
        manifest = json.loads((self.one / "manifest.json").read_text(encoding="utf-8"))
        self.place.write("one/manifest.json", json.dumps({**manifest, "started": "2026-02-03T04:05:06Z"}))
        self.assertEqual(self.relay(Fake()).forward(), first)

    def test_a_part_can_be_named(self) -> None:
        for path, runs in (
            ("sft/0.2/1", {"sft/0.2/1"}),
            ("sft", {"sft/aligned/1", "sft/0.2/1"}),
            ("vaccine/0.1/1", {"vaccine/0.1/1"}),
            ("checkpoints/vaccine/0.1/1/step-0000000001", {"vaccine/0.1/1"}),
        ):
            with self.subTest(path):
                fake = Fake()
                fake.destination = path
                self.relay(fake, self.one / path).forward()
                self.assertEqual(set(fake.points), runs)
        for path in (self.place.root / "nowhere", self.work / "nothing"):
            with self.assertRaisesRegex(FileNotFoundError, "no experiment"):
                _target.targets(path)
        self.place.manifest("two")
        self.assertEqual([each.root.name for each in _target.targets(self.place.root)], ["one", "two"])

    def test_two_processes_do_not_send_the_same(self) -> None:
        first, second = self.relay(Fake()), self.relay(Fake())
        with first.alone(), self.assertRaisesRegex(TrackerError, "another process"), second.alone():
            self.fail("the second one may go on")

    def test_unknown_notes_are_an_error(self) -> None:
        self.relay(Fake()).forward()
        (notes,) = (self.one / ".track").glob("*.json")
        notes.write_text('{"version": 9}', encoding="utf-8")
        with self.assertRaisesRegex(FormatError, "remove the file"):
            self.relay(Fake())

    def test_a_damaged_log_is_an_error(self) -> None:
        self.place.write("one/sft/0.2/1/metrics.jsonl", lines([step(1, 4.0)]) + '{"kind":')
        with self.assertRaisesRegex(FormatError, r"metrics\.jsonl:2: not JSON"):
            self.relay(Fake()).forward()

    def test_only_plain_settings_are_sent(self) -> None:
        kept = _text.settings(
            {
                "defense": {"name": "x", "rho": 2.0, "on": True, "file": "/home/me/data.json", "text": "say sure"},
                "perturber": {"inner": {"norm": "l2", "list": [1, 2]}},
                "seconds": 1.0,
                "steps": 3,
            }
        )
        wanted = {"defense.name": "x", "defense.rho": 2.0, "defense.on": True, "perturber.inner.norm": "l2", "steps": 3}
        self.assertEqual(kept, wanted)


class Following(InPlace):
    def test_it_ends_when_everything_is_measured(self) -> None:
        fake = Fake()
        manifest = json.loads((self.one / "manifest.json").read_text(encoding="utf-8"))

        def finish() -> None:
            time.sleep(0.2)
            log = lines([step(1, 3.0), step(2, 1.0)])
            self.place.write("one/vaccine/0.1/1/metrics.jsonl", log)
            self.place.run("one/vaccine/0.1/1", record("vaccine", 0.1, 1))
            self.place.write("one/manifest.json", json.dumps({**manifest, "finished": "2026-01-02T03:05:05Z"}))

        thread = threading.Thread(target=finish)
        thread.start()
        said: list[str] = []
        problems = _track.follow([self.relay(fake)], 0.02, 60.0, lambda name, _: said.append(name))
        thread.join()
        self.assertEqual(problems, [])
        self.assertEqual([point.step for point in fake.points["vaccine/0.1/1"]], [1] * 4 + [2] * 4)
        self.assertEqual(said, ["fake", "fake"])

    def test_it_gives_up_on_a_run_that_was_stopped(self) -> None:
        relay = self.relay(Fake(), self.one / "vaccine/0.1/1")
        (problem,) = _track.follow([relay], 0.02, 0.1, lambda *_: None)
        self.assertIn("no process has worked on it for 0.1 s", problem)

    def test_a_process_that_holds_the_experiment_is_seen(self) -> None:
        try:
            import fcntl
        except ModuleNotFoundError:
            self.skipTest("no file locks")
        (target,) = _target.targets(self.one)
        self.assertFalse(target.is_held())
        with (self.one / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertTrue(target.is_held())
        self.assertFalse(target.is_held())

    def test_a_tracker_that_is_away_for_a_moment_is_tried_again(self) -> None:
        fake = Fake()
        fake.away = True
        said = []

        def say(text: str, _: Any) -> None:
            said.append(text)
            fake.away = len(said) < 2

        relay = self.relay(fake, self.one / "sft/0.2/1")
        self.assertEqual(_track.follow([relay], 0.01, 60.0, say), [])
        self.assertEqual(said, ["fake: away; trying again"] * 2 + ["fake"])

    def test_a_tracker_that_stays_away_does_not_stop_the_others(self) -> None:
        away, fake = Fake(), Fake()
        away.away, away.destination = True, "there"
        relays = [self.relay(each, self.one / "sft/0.2/1") for each in (away, fake)]
        self.assertEqual(_track.follow(relays, 0.01, 60.0, lambda *_: None), ["fake: away"])
        self.assertEqual(len(fake.points["sft/0.2/1"]), 12)


if __name__ == "__main__":
    unittest.main()
