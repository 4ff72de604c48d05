"""Reads what trackers and formats were sent with their own libraries. `with_real_libraries.sh` runs it.

    real_libraries.py WORK [EXPERIMENT]

WORK is a directory for everything that is written. Without an experiment, that of `test_runs.py` is used.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import math
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vxf
from test_runs import Place, example
from vxf import _commands, _runs, _trackers

#: Values by run, name and step.
Values = dict[str, dict[tuple[str, int], float]]


def expected(experiment: Path) -> Values:
    """What a tracker must have, computed from the data frames."""
    prefix = {"step": "train", "measurement": "eval", "finish": "finish"}
    values: Values = {}
    for row in vxf.curves(experiment).dropna(subset=["value"]).to_dict("records"):
        values.setdefault(row["run"], {})[f"{prefix[row['kind']]}/{row['figure']}", row["step"]] = row["value"]
    steps = {row["run"]: row["steps"] for row in vxf.runs(experiment).to_dict("records")}
    for row in vxf.results(experiment).dropna(subset=["value"]).to_dict("records"):
        of = values.setdefault(row["run"], {})
        of[f"final/{row['figure']}", steps[row["run"]]] = row["value"]
        for end in ("low", "high"):
            if not math.isnan(row[end]):
                of[f"final/{row['figure']}.{end}", steps[row["run"]]] = row[end]
    return values


def command(*arguments: str) -> str:
    """Runs a command of the package; what it says."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = _commands.main(arguments)
    if code != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit code {code}: {said.getvalue()}")
    return said.getvalue()


def sent_once(experiment: Path, tracker: str, *more: str) -> None:
    """Sends, and sends again."""
    first = command("track", str(experiment), "--to", tracker, "--with-samples", *more)
    second = command("track", str(experiment), "--to", tracker, "--with-samples", *more)
    check("values" in first and second == f"{tracker}: nothing new\n", f"{tracker}: the second call said {second!r}")


def check(holds: bool, problem: str) -> None:
    if not holds:
        raise SystemExit(f"FAILED: {problem}")


def passed(library: str, what: str) -> None:
    print(f"ok: {library} {importlib.metadata.version(library)}: {what}")


def compare(found: Values, wanted: Values, of: str) -> int:
    check(found.keys() == wanted.keys(), f"{of}: runs {sorted(found)}, and not {sorted(wanted)}")
    for run, values in wanted.items():
        check(found[run] == values, f"{of}: {run}: {sorted(found[run].items())} and not {sorted(values.items())}")
    return sum(len(values) for values in wanted.values())


def tensorboard(experiment: Path, work: Path, wanted: Values) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logdir = work / "events"
    sent_once(experiment, "tensorboard", "--logdir", str(logdir))
    found: Values = {}
    texts = 0
    for run in wanted:
        events = EventAccumulator(str(logdir / experiment.name / run), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        of = found.setdefault(run, {})
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                check((tag, event.step) not in of, f"tensorboard: {run}: {tag} twice at step {event.step}")
                of[tag, event.step] = event.value
        for tag in events.Tags()["tensors"]:
            plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
            check(plugin == "text", f"tensorboard: {tag} is for the plugin {plugin}")
            texts += len(events.Tensors(tag))
    single = {
        run: {key: struct.unpack("<f", struct.pack("<f", value))[0] for key, value in values.items()}
        for run, values in wanted.items()
    }
    count = compare(found, single, "tensorboard")
    answers = len(vxf.answers(experiment))
    check(texts >= answers, f"tensorboard: {texts} texts, and {answers} answers")
    passed("tensorboard", f"its own reader finds {count} equal values and {texts} texts")


@contextlib.contextmanager
def mlflow_server(work: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = work / "mlflow"
    place.mkdir()
    arguments = ["--backend-store-uri", f"sqlite:///{place}/store.db", "--artifacts-destination", str(place / "files")]
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
            + arguments,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2):
                break
            check(server.poll() is None, f"mlflow: the server ended: {(place / 'log').read_text()[-2000:]}")
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def mlflow(experiment: Path, work: Path, wanted: Values) -> None:
    with mlflow_server(work) as address:
        os.environ["MLFLOW_TRACKING_URI"] = address
        sent_once(experiment, "mlflow", "--project", "check")
        import mlflow as library

        client = library.MlflowClient(address)
        found: Values = {}
        place = client.get_experiment_by_name("check")
        for run in client.search_runs([place.experiment_id]):
            name = run.data.tags["vxf.run"]
            of = found.setdefault(name, {})
            for key in run.data.metrics:
                for metric in client.get_metric_history(run.info.run_id, key):
                    check((key, metric.step) not in of, f"mlflow: {name}: {key} twice at step {metric.step}")
                    of[key, metric.step] = metric.value
            if name in set(vxf.answers(experiment)["run"]):
                files = [file.path for file in client.list_artifacts(run.info.run_id)]
                check(files == ["answers.jsonl"], f"mlflow: {name}: files {files}")
                check("defense.name" in run.data.params, f"mlflow: {name}: settings {run.data.params}")
        states = sorted({run.info.status for run in client.search_runs([place.experiment_id])})
        count = compare(found, wanted, "mlflow")
    passed("mlflow", f"a local server has {count} equal values; states {', '.join(states)}")


def wandb(experiment: Path, work: Path, wanted: Values) -> None:
    os.environ.update(WANDB_MODE="offline", WANDB_DIR=str(work / "offline"))
    (work / "offline").mkdir()
    command("track", str(experiment), "--to", "wandb")
    places = sorted((work / "offline" / "wandb").glob("offline-run-*"))
    check(len(places) == len(wanted), f"wandb: {len(places)} directories, and {len(wanted)} runs")
    stored = b"".join(file.read_bytes() for place in places for file in place.rglob("*") if file.is_file())
    for private in (socket.gethostname(), os.fspath(work), sys.executable):
        # A short name can be part of anything. The client's own log files name its directories, and are not sent. A
        # table of answers is named by its path, until it is sent.
        if len(private) < 5:
            continue
        sent = b"".join(file.read_bytes() for place in places for file in place.glob("*.wandb"))
        where = sent.find(private.encode())
        check(where < 0, f"wandb: what would be sent has {private}: {sent[max(where - 80, 0) : where + 80]!r}")
    for name in {name for values in wanted.values() for name, _ in values}:
        check(name.encode() in stored, f"wandb: {name} is missing")
    sent_once(experiment, "wandb")
    more = [file for file in (work / "offline").rglob("*.table.json")]
    check(len(more) == vxf.answers(experiment)["run"].nunique(), f"wandb: {len(more)} tables of answers")
    passed("wandb", f"{len(places)} offline directories with all names, without this machine's")


def trackio(experiment: Path, work: Path, wanted: Values) -> None:
    os.environ["TRACKIO_DIR"] = str(work / "trackio")
    sent_once(experiment, "trackio", "--project", "check")
    from trackio.sqlite_storage import SQLiteStorage

    found: Values = {}
    for name in SQLiteStorage.get_runs("check"):
        run = name.removeprefix(f"{experiment.name}/").rpartition("@")[0]
        of = found.setdefault(run, {})
        for row in SQLiteStorage.get_logs("check", name):
            for key, value in row.items():
                if isinstance(value, (int, float)) and "/" in key:
                    check((key, row["step"]) not in of, f"trackio: {run}: {key} twice at step {row['step']}")
                    of[key, row["step"]] = value
    # The client makes no run without values.
    count = compare(found, {run: values for run, values in wanted.items() if values}, "trackio")
    config = SQLiteStorage.get_run_config("check", SQLiteStorage.get_runs("check")[0])
    check("method" in config and "defense.name" in config, f"trackio: settings {config}")
    passed("trackio", f"its database has {count} equal values")


def inspect(experiment: Path, work: Path) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    for more in ([], ["--with-samples"]):
        output = work / f"inspect{len(more)}"
        command("export", str(experiment), "--format", "inspect", "--output", str(output), *more)
        logs = [read_eval_log(each) for each in list_eval_logs(str(output))]
        check(len(logs) == len(list(output.iterdir())) and bool(logs), "inspect: not all logs are listed")
        figures = vxf.results(experiment)
        answers = vxf.answers(experiment)
        count = 0
        for log in logs:
            about = log.eval.task_args
            for score in log.results.scores:
                rows = figures[(figures["run"] == about["run"]) & (figures.figure == score.name)]
                row = rows.iloc[0]
                ((name, value),) = score.metrics.items()
                scale = 100.0 if name == "mean" else 1.0
                check(math.isclose(scale * value.value, row["value"], rel_tol=1e-12), f"inspect: {score.name} differs")
                count += 1
                # The mean of a score's samples is the score.
                of = [each.scores[score.name].value for each in log.samples or [] if score.name in each.scores]
                if of:
                    check(math.isclose(sum(of) / len(of), value.value, rel_tol=1e-9), f"inspect: mean of {score.name}")
            stored = set(answers.answer[answers["run"] == about["run"]])
            for sample in log.samples or []:
                shown = sample.output.completion in stored
                check(shown == bool(more and stored), f"inspect: {sample.id}: an answer is there, or is not")
    passed("inspect_ai", f"its own reader opens {len(logs)} logs with {count} equal figures, redacted and not")


def every_eval_ever(experiment: Path, work: Path) -> None:
    from jsonschema.validators import validator_for

    files = importlib.metadata.distribution("every-eval-ever").files or []
    schemas = {}
    for file in files:
        if file.name in ("eval.schema.json", "instance_level_eval.schema.json"):
            schemas[file.name] = json.loads(Path(str(file.locate())).read_text())
    check(len(schemas) == 2, "every_eval_ever: its package has no schemas")

    def valid(name: str, value: Any, where: Path) -> None:
        schema = schemas[name]
        check(schema["version"] == value["schema_version"], f"every_eval_ever: schema {schema['version']}")
        problems = [error.message for error in validator_for(schema)(schema).iter_errors(value)]
        check(not problems, f"every_eval_ever: {where}: {problems}")

    for more in ([], ["--with-samples"]):
        output = work / f"every-eval-ever{len(more)}"
        command("export", str(experiment), "--format", "every-eval-ever", "--output", str(output), *more)
        records = sorted(output.rglob("*.json"))
        stored = set(vxf.answers(experiment)["run"])
        lines = 0
        for path in records:
            record = json.loads(path.read_text())
            valid("eval.schema.json", record, path)
            companion = record.get("detailed_evaluation_results")
            if companion:
                content = (output / companion["file_path"]).read_text()
                rows = [json.loads(line) for line in content.splitlines()]
                check(len(rows) == companion["total_rows"], f"every_eval_ever: {path}: rows")
                results = {each["evaluation_result_id"] for each in record["evaluation_results"]}
                for row in rows:
                    valid("instance_level_eval.schema.json", row, path)
                    check(row["evaluation_result_id"] in results, f"every_eval_ever: {path}: no such result")
                    shown = row["input"]["raw"] != "[redacted]"
                    run = record["source_metadata"]["additional_details"]["run"]
                    check(shown == bool(more and run in stored), f"every_eval_ever: {path}: redaction")
                lines += len(rows)
        if sys.version_info >= (3, 12):
            paths = [str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()]
            validate = [sys.executable, "-m", "every_eval_ever", "validate", "--format", "json", *paths]
            done = subprocess.run(validate, cwd=output, capture_output=True, text=True, check=False)
            check(done.returncode == 0, f"every_eval_ever: its validator: {done.stdout} {done.stderr}")
    version = next(iter(schemas.values()))["version"]
    by = "schema and validator" if sys.version_info >= (3, 12) else "schema"
    passed("every-eval-ever", f"{len(records)} records and {lines} lines are valid by its {by}, version {version}")


def tables(experiment: Path, work: Path) -> None:
    import pandas

    for form in ("csv", "parquet"):
        output = work / form
        command("export", str(experiment), "--format", form, "--output", str(output), "--with-samples")
        read = pandas.read_csv if form == "csv" else pandas.read_parquet
        for name, wanted in (("results", vxf.results(experiment)), ("curves", vxf.curves(experiment))):
            found = read(output / f"{name}.{form}")
            check(list(found.columns) == list(wanted.columns), f"{form}: columns of {name}")
            check(len(found) == len(wanted), f"{form}: rows of {name}")
            same = (found["value"] == wanted["value"]) | (found["value"].isna() & wanted["value"].isna())
            check(bool(same.all()), f"{form}: values of {name}")
        check(len(read(output / f"answers.{form}")) == len(vxf.answers(experiment)), f"{form}: answers")
    passed("pandas", "reads the CSV files with equal values")
    passed("pyarrow", "reads the Parquet files with equal values")


def own_files(experiment: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in experiment.rglob("*.json*") if ".track" not in path.parts}


def main() -> None:
    work = Path(sys.argv[1])
    if len(sys.argv) > 2:
        experiment = Path(sys.argv[2])
    else:
        example(Place(work / "runs"))
        experiment = work / "runs" / "one"
    before = own_files(experiment)
    wanted = expected(experiment)
    runs = {run.place.relative_to(run.root).as_posix() for run in _runs._runs(experiment, under_way=True)}
    check(set(wanted) <= runs, "a run is missing")
    for run in runs - set(wanted):
        # It has settings, and no values yet.
        wanted[run] = {}
    tables(experiment, work)
    inspect(experiment, work)
    every_eval_ever(experiment, work)
    for name in _trackers.NAMES:
        globals()[name](experiment, work, wanted)
    check(before == own_files(experiment), "the experiment's own files changed")
    print("all hold")


if __name__ == "__main__":
    main()
