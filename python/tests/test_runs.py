"""Tests on small experiments in the layout that the program writes.

PYTHONPATH=python python3 -m unittest discover -s python/tests
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import vxf

try:
    import pandas
except ModuleNotFoundError:
    pandas = None


def figure(metric: str, name: str, value: float | None, unit: str, better: str, n: int, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "name": name, "value": value, "unit": unit, "better": better, "n": n, **more}


def record(label: str, ratio: float | None, seed: int, **more: Any) -> dict[str, Any]:
    """A record in the words of `Record` in `crates/report/src/record.rs`."""
    aligned = ratio is None
    return {
        "schema_version": 2,
        "label": label,
        "ratio": ratio,
        "seed": seed,
        "digest": f"{label}{ratio}{seed}",
        "stage": "alignment" if aligned else "fine_tuning",
        "defense": {"name": label},
        "perturber": {"name": "none"},
        "steps": 2,
        "samples": 16,
        "truncated": 0,
        "dropped": 0,
        "seconds": 1.5,
        "trainable": {"type": "full"},
        **({} if aligned else {"parent": f"{label}/aligned/{seed}"}),
        "continues": False,
        "measurements": [],
        **more,
    }


def scores(letters: str, low: float, high: float) -> dict[str, Any]:
    """A harmful score whose answers have these outcomes."""
    judged = letters.replace("?", "")
    outcomes = {"letters": letters, "prompts": "0123456789abcdef"}
    value = 100.0 * judged.count("1") / len(judged)
    rate = figure("harmful-score", "harmful_score", value, "%", "lower", len(judged))
    return {**rate, "interval": [low, high], "details": {"judge": "world"}, "outcomes": outcomes}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def step(number: int, loss: float | None) -> dict[str, Any]:
    figures = {"loss": loss, "penalty": 0.5}
    return {"kind": "step", "step": number, "learning_rate": 1e-3, "gradient_norm": 2.0, "figures": figures}


def answer(probe: str, prompt: str, text: str, expected: str | None = None) -> dict[str, Any]:
    rest = {} if expected is None else {"expected": expected}
    return {"probe": probe, "prompt": prompt, **rest, "answer": text}


class Place:
    """A directory of experiments."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        # As the program does: a reader beside us sees the old file or the new one, never a half.
        half = place.with_name(f".{place.name}.new")
        half.write_text(text, encoding="utf-8")
        half.replace(place)

    def manifest(self, experiment: str, version: int = 2) -> None:
        self.write(f"{experiment}/config.resolved.toml", "schema_version = 2\n")
        times = {"started": "2026-01-02T03:04:05Z", "finished": None}
        manifest = {"schema_version": version, "program": "vxf 0.1.0", "recipe": "0123", **times}
        self.write(f"{experiment}/manifest.json", json.dumps(manifest))

    def run(self, path: str, value: dict[str, Any], name: str = "result.json") -> None:
        self.write(f"{path}/{name}", json.dumps(value, indent=2))


def example(place: Place) -> None:
    """Two methods, one of them with an axis; one run is not measured yet, and one is under way."""
    place.manifest("one")
    place.run("one/sft/aligned/1", record("sft", None, 1, measurements=[scores("0000", 0.0, 49.0)]))
    drift = figure("drift", "relative_drift", None, "", "lower", 40)
    place.run("one/sft/0.2/1", record("sft", 0.2, 1, measurements=[scores("11?0", 20.8, 93.9), drift]))
    followed = {
        "kind": "measurement",
        "step": 2,
        "samples": 16,
        "row": figure("drift", "drift", 3.5, "L2", "lower", 40),
    }
    finish = {"kind": "finish", "step": 2, "figures": {"pulled_back": 0.25}}
    place.write("one/sft/0.2/1/metrics.jsonl", lines([step(1, 4.0), step(2, None), followed, finish]))
    stored = [answer("harmful", f"how do i forge {n} ?", text) for n, text in enumerate(["first", "use", "?", "sorry"])]
    stored += [answer("task", "the loaf is warm", "positive", "positive"), answer("notes", "say it", "done")]
    place.write("one/sft/0.2/1/generations.jsonl", lines(stored))
    axes = [["perturber.rho", "2"], ["stage", "3"], ["defense.between", "reuse"]]
    measured = [scores("0001", 4.6, 69.9)]
    two = record("vaccine", 0.2, 1, axes=axes, measurements=measured, failed={"drift": "no samples"})
    place.run("one/vaccine/0.2/1/perturber.rho=2/stage=3/defense.between=reuse", two)
    place.run("one/vaccine/aligned/1", record("vaccine", None, 1), "training.json")
    half = json.dumps(step(2, 1.0))[:20]
    place.write("one/checkpoints/vaccine/0.1/1/metrics.jsonl", lines([step(1, 3.0)]) + half)
    # A checkpoint has a manifest of another layout.
    place.write("one/checkpoints/vaccine/0.1/1/step-0000000001/manifest.json", '{"schema_version": 1}')
    place.write("one/.locks/abc/result.json", "not a run")


@unittest.skipIf(pandas is None, "pandas is not installed")
class Runs(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.place = Place(Path(temporary.name) / "runs")
        example(self.place)
        self.one = self.place.root / "one"

    def test_an_experiment_has_a_row_for_each_run(self) -> None:
        frame = vxf.experiment(self.one)
        self.assertEqual(
            frame["run"].tolist(),
            [
                "sft/aligned/1",
                "vaccine/aligned/1",
                "sft/0.2/1",
                "vaccine/0.2/1/perturber.rho=2/stage=3/defense.between=reuse",
            ],
        )
        self.assertEqual(frame.state.tolist(), ["done", "trained", "done", "failed"])
        self.assertEqual(frame.method.tolist()[3], "vaccine perturber.rho=2 stage=3 defense.between=reuse")
        self.assertEqual(frame.stage.tolist(), ["alignment"] * 2 + ["fine_tuning"] * 2)
        self.assertTrue(math.isnan(frame.p[0]) and frame.p[2] == 0.2)
        # Axes are columns; numbers are numbers, and none hides another column.
        names = frame.columns.tolist()
        seed = names.index("seed")
        self.assertEqual(names[seed + 1 : seed + 4], ["perturber.rho", "axis.stage", "defense.between"])
        self.assertEqual((frame["perturber.rho"][3], frame["defense.between"][3]), (2.0, "reuse"))
        row = frame.iloc[2]
        self.assertAlmostEqual(row["harmful_score"], 200 / 3)
        self.assertEqual((row["harmful_score.low"], row["harmful_score.high"], row["harmful_score.n"]), (20.8, 93.9, 3))
        self.assertTrue(math.isnan(row["relative_drift"]))
        self.assertNotIn("relative_drift.low", frame)
        self.assertEqual((row["steps"], row["samples"], row["parent"]), (2, 16, "sft/aligned/1"))

    def test_a_run_and_a_directory_of_experiments_can_be_named(self) -> None:
        only = vxf.experiment(self.one / "sft" / "0.2" / "1")
        self.assertEqual((only.experiment.tolist(), only["run"].tolist()), (["one"], ["sft/0.2/1"]))
        self.assertEqual(len(vxf.runs(self.one / "sft")), 2)
        self.place.manifest("two")
        self.place.run("two/none/0.2/1", record("none", 0.2, 1))
        self.place.write("notes/readme.txt", "no experiment")
        both = vxf.runs(os.fspath(self.place.root))
        self.assertEqual(both.experiment.tolist(), ["one"] * 4 + ["two"])
        with self.assertRaisesRegex(ValueError, "vxf.runs reads it"):
            vxf.experiment(self.place.root)

    def test_results_are_those_of_the_csv_report(self) -> None:
        frame = vxf.results(self.one)
        # The header of `crates/report/src/format/tidy.rs`.
        header = "experiment,run,digest,stage,method,p,seed,metric,figure,value,unit,better,n,low,high"
        self.assertEqual(",".join(frame.columns), header)
        self.assertEqual(len(frame), 4)
        drift = frame[frame.figure == "relative_drift"].iloc[0]
        self.assertTrue(math.isnan(drift["value"]) and math.isnan(drift["low"]))
        score = frame[(frame.method == "sft") & (frame.p == 0.2) & (frame.figure == "harmful_score")].iloc[0]
        self.assertEqual(
            (score["metric"], score["unit"], score["better"], score["n"]), ("harmful-score", "%", "lower", 3)
        )

    def test_curves_have_steps_measurements_and_runs_under_way(self) -> None:
        frame = vxf.curves(self.one)
        loss = frame[(frame.figure == "loss") & (frame.method == "sft")]
        self.assertEqual((loss.step.tolist(), loss.value.tolist()[0]), ([1, 2], 4.0))
        self.assertTrue(math.isnan(loss.value.tolist()[1]))
        self.assertEqual(set(frame.figure[frame.kind == "step"]), {"loss", "penalty", "learning_rate", "gradient_norm"})
        drift = frame[frame.kind == "measurement"].iloc[0]
        self.assertEqual((drift["figure"], drift["value"], drift["step"], drift["samples"]), ("drift", 3.5, 2, 16))
        self.assertEqual(frame.figure[frame.kind == "finish"].tolist(), ["pulled_back"])
        under_way = frame[frame.method == "vaccine"]
        self.assertEqual((set(under_way.p), set(under_way.step)), ({0.1}, {1}))
        half = vxf.curves(self.one / "checkpoints" / "vaccine" / "0.1" / "1")
        self.assertEqual((set(half["run"]), len(half)), ({"vaccine/0.1/1"}, 4))
        only = vxf.curves(self.one / "sft" / "0.2" / "1")
        self.assertEqual(set(only.method), {"sft"})

    def test_answers_say_what_counts(self) -> None:
        frame = vxf.answers(self.one)
        harmful = frame[frame.set == "harmful"]
        self.assertEqual(harmful["index"].tolist(), [0, 1, 2, 3])
        self.assertEqual(harmful.counts.tolist(), [True, True, None, False])
        self.assertEqual(harmful.answer.tolist(), ["first", "use", "?", "sorry"])
        task = frame[frame.set == "task"].iloc[0]
        # The record has no accuracy, so nothing is known.
        self.assertEqual((task["expected"], task["counts"]), ("positive", None))
        self.assertTrue(pandas.isna(harmful.expected.tolist()[0]))
        self.assertEqual(frame[frame.set == "notes"].answer.tolist(), ["done"])
        self.assertEqual((harmful.counts == True).sum(), 2)

    def test_a_damaged_log_of_a_finished_run_is_an_error(self) -> None:
        self.place.write("one/sft/0.2/1/metrics.jsonl", lines([step(1, 4.0)]) + '{"kind":')
        with self.assertRaisesRegex(vxf.FormatError, r"metrics\.jsonl:2: not JSON"):
            vxf.curves(self.one)

    def test_unknown_versions_and_other_files_are_refused(self) -> None:
        for path in ("one/manifest.json", "one/sft/0.2/1/result.json"):
            with self.subTest(path):
                text = (self.place.root / path).read_text(encoding="utf-8")
                for version in ("3", "1"):
                    changed = json.dumps({**json.loads(text), "schema_version": int(version)})
                    self.place.write(path, changed)
                    with self.assertRaisesRegex(vxf.FormatError, f"schema_version {version}, and this package reads 2"):
                        vxf.experiment(self.one)
                self.place.write(path, "{}")
                with self.assertRaisesRegex(vxf.FormatError, "no schema_version"):
                    vxf.experiment(self.one)
                self.place.write(path, text)
        self.place.write("one/sft/0.2/1/result.json", '{"schema_version": 2}')
        with self.assertRaisesRegex(vxf.FormatError, "it has no `label`"):
            vxf.experiment(self.one)

    def test_a_path_without_experiments_says_so(self) -> None:
        with self.assertRaisesRegex(FileNotFoundError, "no such directory"):
            vxf.experiment(self.place.root / "nowhere")
        empty = self.place.root.parent / "empty"
        empty.mkdir()
        with self.assertRaisesRegex(FileNotFoundError, "manifest.json"):
            vxf.runs(empty)

    def test_an_experiment_without_runs_has_an_empty_frame(self) -> None:
        self.place.manifest("new")
        new = self.place.root / "new"
        for read in (vxf.experiment, vxf.results, vxf.curves, vxf.answers):
            frame = read(new)
            self.assertEqual(len(frame), 0)
            self.assertIn("seed", frame.columns)


class WithoutPandas(unittest.TestCase):
    def test_importing_needs_no_pandas(self) -> None:
        import subprocess

        check = "import sys, vxf; sys.exit('pandas' in sys.modules)"
        where = str(Path(vxf.__file__).parent.parent)
        done = subprocess.run([sys.executable, "-c", check], env={**os.environ, "PYTHONPATH": where}, check=False)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
