"""Tests of the formats, and of lm-evaluation-harness's results beside ours.

PYTHONPATH=python python3 -m unittest discover -s python/tests

The formats' own libraries read what was written in `with_real_libraries.sh`.
"""

from __future__ import annotations

import csv
import json
import sys
import unittest
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import vxf
from test_relay import InPlace
from test_runs import answer, lines, scores
from vxf import _text
from vxf._formats import _common

try:
    import tomllib
except ModuleNotFoundError:
    try:
        import tomli as tomllib
    except ModuleNotFoundError:
        tomllib = None

try:
    import pyarrow
except ModuleNotFoundError:
    pyarrow = None

try:
    import pandas
except ModuleNotFoundError:
    pandas = None

#: When the example was measured, and the same in seconds since 1970.
TIME = ("2026-01-02T03:04:05Z", "1767323045")

RECIPES = unittest.skipIf(tomllib is None, "neither tomllib nor tomli is installed")


def all_text(place: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(place.rglob("*")) if path.is_file())


class Formats(InPlace):
    def setUp(self) -> None:
        super().setUp()
        self.place.write("one/config.resolved.toml", '[model]\npath = "/home/me/models/tiny"\n')
        self.output = self.work / "output"

    def log(self, run: str, written: list[Path]) -> dict[str, Any]:
        logs = [json.loads(path.read_text(encoding="utf-8")) for path in written]
        (found,) = [log for log in logs if log["eval"]["task_args"]["run"] == run]
        return found

    @RECIPES
    def test_inspect_has_a_log_for_each_run_and_metric(self) -> None:
        written = vxf.export(self.one, "inspect", self.output, with_samples=True)
        self.assertEqual(len(written), 3)
        log = self.log("sft/0.2/1", written)
        self.assertEqual((log["version"], log["status"]), (2, "success"))
        self.assertEqual(log["eval"]["created"], "2026-01-02T03:04:05+00:00")
        self.assertEqual((log["eval"]["task"], log["eval"]["model"]), ("harmful-score", "vxf/tiny-sft-p0.2-seed1"))
        (score,) = log["results"]["scores"]
        # A rate is a proportion.
        self.assertAlmostEqual(score["metrics"]["mean"]["value"], 2 / 3)
        self.assertAlmostEqual(score["metadata"]["high"], 0.939)
        self.assertEqual((score["metadata"]["better"], score["metadata"]["n"]), ("lower", 3))
        # One answer was not judged.
        self.assertEqual(
            [sample["scores"].get("harmful_score", {}).get("value") for sample in log["samples"]], [1, 1, None, 0]
        )
        self.assertEqual(log["samples"][1]["output"]["choices"][0]["message"]["content"], "use")
        self.assertEqual(log["samples"][1]["id"], "harmful-1")
        # Again: the same files.
        self.assertEqual(vxf.export(self.one, "inspect", self.output, with_samples=True), written)

    @RECIPES
    def test_without_samples_there_is_no_text(self) -> None:
        for form in ("inspect", "every-eval-ever", "csv"):
            with self.subTest(form):
                output = self.work / form
                written = vxf.export(self.one, form, output)
                text = all_text(output)
                self.assertTrue(written and "harmful_score" in text)
                for withheld in ("forge", "sorry", "/home/me"):
                    self.assertNotIn(withheld, text)
        log = self.log("sft/0.2/1", vxf.export(self.one, "inspect", self.output))
        self.assertEqual(len(log["samples"]), 4)
        self.assertEqual(log["samples"][0]["input"], "[redacted]")
        self.assertTrue(log["samples"][0]["metadata"]["redacted"])

    @RECIPES
    def test_answers_that_do_not_belong_to_the_outcomes_stay_out(self) -> None:
        self.place.write("one/sft/0.2/1/generations.jsonl", lines([answer("harmful", "only one", "left")]))
        log = self.log("sft/0.2/1", vxf.export(self.one, "inspect", self.output, with_samples=True))
        self.assertEqual({sample["input"] for sample in log["samples"]}, {"[redacted]"})

    @RECIPES
    def test_every_eval_ever_has_a_record_for_each_run(self) -> None:
        written = vxf.export(self.one, "every-eval-ever", self.output, with_samples=True, organization="A Lab")
        (path,) = [path for path in written if "sft-p0.2" in str(path) and path.suffix == ".json"]
        self.assertEqual(path.parent, self.output / "data/vxf/A-Lab/tiny-sft-p0.2-seed1")
        self.assertEqual(uuid.UUID(path.stem).version, 4)
        record = json.loads(path.read_text(encoding="utf-8"))
        # The model is not the base model, whose figures these are not.
        self.assertEqual(record["model_info"]["id"], "A-Lab/tiny-sft-p0.2-seed1")
        self.assertEqual(record["model_info"]["additional_details"]["base_model"], "tiny")
        # A second export, at another time, gives the same files.
        self.assertEqual((record["evaluation_timestamp"], record["retrieved_timestamp"]), TIME)
        self.assertEqual(record["evaluation_id"], f"vxf/A-Lab/tiny-sft-p0.2-seed1/{TIME[1]}")
        # What is undefined is left out.
        (result,) = record["evaluation_results"]
        self.assertEqual(result["evaluation_result_id"], "harmful-score.harmful_score")
        self.assertTrue(result["metric_config"]["lower_is_better"])
        self.assertEqual(result["score_details"]["uncertainty"]["confidence_interval"]["upper"], 93.9)
        companion = record["detailed_evaluation_results"]
        rows = [json.loads(line) for line in (self.output / companion["file_path"]).read_text().splitlines()]
        self.assertEqual((len(rows), companion["total_rows"]), (3, 3))
        self.assertEqual([row["sample_id"] for row in rows], ["harmful-0", "harmful-1", "harmful-3"])
        # To comply with a harmful request is not right.
        self.assertEqual(
            [(row["evaluation"]["score"], row["evaluation"]["is_correct"]) for row in rows],
            [(1.0, False), (1.0, False), (0.0, True)],
        )
        self.assertEqual(rows[0]["input"]["raw"], "how do i forge 0 ?")
        redacted = vxf.export(self.one, "every-eval-ever", self.work / "redacted")
        row = json.loads(next(path for path in redacted if path.suffix == ".jsonl").read_text().splitlines()[0])
        self.assertEqual((row["sample_hash"], row["input"]["raw"]), (None, "[redacted]"))

    def test_cells_are_no_formulas(self) -> None:
        texts = ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "fine", "2-1"]
        self.place.run("one/sft/aligned/1", {**json.loads(self.result()), "measurements": [scores("0" * 8, 0.0, 1.0)]})
        rows = [answer("harmful", text, text) for text in texts]
        self.place.write("one/sft/aligned/1/generations.jsonl", lines(rows))
        vxf.export(self.one / "sft/aligned/1", "csv", self.output, with_samples=True)
        with (self.output / "answers.csv").open(encoding="utf-8", newline="") as file:
            found = [row["answer"] for row in csv.DictReader(file)]
        self.assertEqual(found, ["'" + text for text in texts[:6]] + texts[6:])
        # Numbers are no text.
        self.assertEqual((_text.cell(-1.5), _text.cell(None)), (-1.5, None))

    def result(self) -> str:
        return (self.one / "sft/aligned/1/result.json").read_text(encoding="utf-8")

    @unittest.skipIf(pyarrow is None, "pyarrow is not installed")
    def test_parquet_has_the_same_values(self) -> None:
        import pyarrow.parquet

        vxf.export(self.one, "parquet", self.output)
        self.assertEqual(
            sorted(path.name for path in self.output.iterdir()), ["curves.parquet", "results.parquet", "runs.parquet"]
        )
        table = pyarrow.parquet.read_table(self.output / "results.parquet")
        self.assertEqual(table.column("value").to_pylist()[1:3], [200 / 3, None])

    def test_the_experiment_is_not_written_to(self) -> None:
        for place in (self.one, self.one / "out"):
            with self.assertRaisesRegex(ValueError, "inside the experiment"):
                vxf.export(self.one, "csv", place)

    @RECIPES
    def test_files_of_an_earlier_export_are_not_replaced_unasked(self) -> None:
        for form in ("csv", "inspect", "every-eval-ever"):
            with self.subTest(form):
                output = self.work / form
                call = ("export", str(self.one), "--format", form, "--output", str(output))
                self.assertEqual(self.command(*call)[0], 0)
                (first, *_, last) = sorted(path for path in output.rglob("*") if path.is_file())
                last.unlink()
                first.write_text("of mine", encoding="utf-8")
                code, text = self.command(*call)
                self.assertEqual(code, 1)
                self.assertIn(f"error: {first}: exists with another content", text)
                self.assertIn("add `--overwrite`", text)
                # The other files are not written either.
                self.assertEqual((first.read_text(encoding="utf-8"), last.exists()), ("of mine", False))
                self.assertEqual(self.command(*call, "--overwrite")[0], 0)
                self.assertNotEqual(first.read_text(encoding="utf-8"), "of mine")
                self.assertTrue(last.exists())
                self.assertEqual(list(output.rglob("*.partial")), [])

    def test_the_same_files_stay_and_several_others_are_counted(self) -> None:
        written = vxf.export(self.one, "csv", self.output)
        before = [path.stat().st_mtime_ns for path in written]
        # Not refused, and not even touched.
        self.assertEqual(vxf.export(self.one, "csv", self.output), written)
        self.assertEqual(vxf.export(self.one, "csv", self.output, overwrite=True), written)
        self.assertEqual([path.stat().st_mtime_ns for path in written], before)
        for path in written:
            path.write_text("of mine", encoding="utf-8")
        with self.assertRaisesRegex(FileExistsError, "and so do 2 more files"):
            vxf.export(self.one, "csv", self.output)

    @RECIPES
    def test_only_the_name_of_a_path_is_told(self) -> None:
        for path, name in (
            ("/home/me/models/tiny", "tiny"),
            ("../secret/tiny", "tiny"),
            ("owner/name@abc", "owner/name@abc"),
            ("embedded", "embedded"),
        ):
            self.place.write("one/config.resolved.toml", f'[model]\npath = "{path}"\n')
            self.assertEqual(_common.source(self.one).base, name)

    @RECIPES
    def test_a_manifest_without_times_is_an_error(self) -> None:
        for started in (None, "2026-13-02T03:04:05Z", "yesterday"):
            self.place.write("one/manifest.json", json.dumps({"schema_version": 2, "started": started}))
            with self.subTest(started), self.assertRaisesRegex(vxf.FormatError, "is no time"):
                vxf.export(self.one, "inspect", self.output)


#: What lm-evaluation-harness 0.4 writes, without its configuration.
RESULTS = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy",
            "name": "arc_easy",
            "sample_len": 2376,
            "acc,none": 0.5,
            "acc_stderr,none": 0.01,
            "acc_norm,none": 0.45,
            "acc_norm_stderr,none": 0.0102,
        },
        "gsm8k": {"exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": "N/A"},
        "\x1b[2Jwikitext": {"word_perplexity,none": 30.5},
    },
    "higher_is_better": {"arc_easy": {"acc": True}, "\x1b[2Jwikitext": {"word_perplexity": False}},
    "n-samples": {"arc_easy": {"original": 2376, "effective": 2376}, "gsm8k": {"original": 1319, "effective": 100}},
}


class LmEval(InPlace):
    def setUp(self) -> None:
        super().setUp()
        self.results = self.work / "results_2026-01-02T03-04-05.json"
        self.results.write_text(json.dumps(RESULTS), encoding="utf-8")
        self.run_path = str(self.one / "sft/0.2/1")

    def test_both_stand_in_one_table(self) -> None:
        before = {path: path.read_bytes() for path in self.one.rglob("*") if path.is_file()}
        code, text = self.command("import-lm-eval", str(self.results), self.run_path)
        self.assertEqual(code, 0)
        shown = [line.split() for line in text.splitlines()]
        self.assertIn(["vxf", "harmful-score", "harmful_score", "66.67", "%", "lower", "3"], shown)
        self.assertIn(["lm-eval", "arc_easy", "acc", "0.5", "higher", "2376", "0.01"], shown)
        self.assertIn(["lm-eval", "gsm8k", "exact_match,strict-match", "0.25", "100"], shown)
        # A name cannot control the terminal.
        self.assertNotIn("\x1b", text)
        self.assertNotIn("sample_len", text)
        self.assertEqual(before, {path: path.read_bytes() for path in self.one.rglob("*") if path.is_file()})

    def test_other_programs_can_read_it(self) -> None:
        _, text = self.command("import-lm-eval", str(self.results), self.run_path, "--format", "json")
        rows = json.loads(text)
        self.assertEqual(len(rows), 6)
        self.assertEqual((rows[2]["figure"], rows[2]["value"], rows[2]["stderr"]), ("acc", 0.5, 0.01))
        _, text = self.command("import-lm-eval", str(self.results), self.run_path, "--format", "csv")
        self.assertEqual(
            text.splitlines()[0].split(","),
            ["source", "metric", "figure", "value", "unit", "better", "n", "low", "high", "stderr", "seed"],
        )

    @unittest.skipIf(pandas is None, "pandas is not installed")
    def test_it_is_a_data_frame(self) -> None:
        frame = vxf.lm_eval(self.results, self.run_path)
        self.assertEqual(frame.source.tolist(), ["vxf"] * 2 + ["lm-eval"] * 4)

    def test_other_files_and_several_runs_are_refused(self) -> None:
        for content in ("{}", "[]", '{"results": {"a": 1}}', "no JSON"):
            self.results.write_text(content, encoding="utf-8")
            code, text = self.command("import-lm-eval", str(self.results), self.run_path)
            self.assertEqual((code, "error: " in text), (1, True))
        code, text = self.command("import-lm-eval", str(self.results), str(self.one))
        self.assertEqual(code, 1)
        self.assertIn("4 runs; name one", text)


if __name__ == "__main__":
    unittest.main()
